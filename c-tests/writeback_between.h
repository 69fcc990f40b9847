/*
 * What other threads may do to a page between two steps of examples/writeback.c. tests/writeback_example.rs has copies
 * of it include this before main(), and call these functions between the steps.
 */

static struct {
    size_t guest;
    uint64_t offset;
} wanted;

static void *load_wanted(void *unused)
{
    pthread_mutex_t *lock = &guests[wanted.guest].pages[wanted.offset].lock;
    /* The thread that holds the lock may be waiting for the claim of the caller of load_between(). */
    if (pthread_mutex_trylock(lock) == 0) {
        verify(wanted.guest, wanted.offset, 0);
        pthread_mutex_unlock(lock);
    }
    return unused;
}

/* Another thread loads the page and checks it. Each fourth time only: a page that is loaded before its claim ends does
 * not leave, and some have to. */
static void load_between(struct guest *guest, uint64_t offset)
{
    static pthread_mutex_t one = PTHREAD_MUTEX_INITIALIZER;
    static unsigned calls;
    pthread_t other;
    pthread_mutex_lock(&one);
    wanted.guest = (size_t)(guest - guests);
    wanted.offset = offset;
    if (calls++ % 4 == 0) {
        if (pthread_create(&other, NULL, load_wanted, NULL) != 0)
            errx(2, "a thread can't be started");
        pthread_join(other, NULL);
    }
    pthread_mutex_unlock(&one);
}

/* Writes the page back, as a writer may, if it is in zswap and has no claim. Each 16th time, because many other pages
 * are written with it, and not while another thread or this one is in here already. */
static void write_back_between(struct guest *guest, uint64_t offset)
{
    static pthread_mutex_t one = PTHREAD_MUTEX_INITIALIZER;
    static unsigned calls;
    static unsigned char buffers[BATCH][ZSWAP_PAGE_SIZE];
    struct zswap_claim claims[BATCH];
    uint64_t stored;
    size_t count = 1;
    if (pthread_mutex_trylock(&one) != 0)
        return;
    if (calls++ % 16 == 0) {
        while (zswap_next_stored(guest->area, offset, &stored) == 0 && stored == offset && count != 0) {
            check(zswap_writeback_begin_area(guest->area, BATCH, claims, buffers, &count), "claiming pages between");
            for (size_t i = 0; i < count; i++)
                end_claim(&claims[i], write_place(guest, claims[i].offset, buffers[i]));
        }
    }
    pthread_mutex_unlock(&one);
}
