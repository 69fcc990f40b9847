/*
 * A small cache of compressed values under string keys, with a limit on its memory. When the pool is full, the cache
 * asks it to shrink, and the pool asks the cache, through its evict callback, to drop the entries that were longest
 * unused.
 *
 * The codec is run-length coding, which is simple and does well on the repetitive text that is stored here.
 */
#include "check.h"

enum { BUCKETS = 1 << 12, MOST_ENTRIES = 1 << 16, MOST_VALUE = 4000, NONE = -1 };

struct entry {
    char key[24];
    zs_handle_t handle;
    uint32_t bytes;
    int next;
};

struct cache {
    struct zs_pool *pool;
    struct entry entries[MOST_ENTRIES];
    int buckets[BUCKETS];
    int free;
    uint64_t count, evicted;
};

/* The beginning of an object: its entry, so that the evict callback can find it. Runs follow. */
struct head {
    int entry;
    uint32_t stored;
};

/* Encodes pairs of length and byte. Returns the number of bytes, or 0 if they do not fit. */
static size_t compress(const unsigned char *value, size_t size, unsigned char *out, size_t room)
{
    size_t used = 0;
    for (size_t at = 0; at < size;) {
        size_t run = 1;
        while (at + run < size && run < 255 && value[at + run] == value[at])
            run++;
        if (used + 2 > room)
            return 0;
        out[used++] = (unsigned char)run;
        out[used++] = value[at];
        at += run;
    }
    return used;
}

static size_t decompress(const unsigned char *runs, size_t size, unsigned char *out, size_t room)
{
    size_t used = 0;
    for (size_t at = 0; at + 1 < size; at += 2) {
        if (used + runs[at] > room)
            return 0;
        memset(out + used, runs[at + 1], runs[at]);
        used += runs[at];
    }
    return used;
}

static int *bucket_of(struct cache *cache, const char *key)
{
    uint32_t hash = 2166136261u;
    for (; *key != 0; key++)
        hash = (hash ^ (unsigned char)*key) * 16777619u;
    return &cache->buckets[hash % BUCKETS];
}

/* Returns the link to a key's entry, or the end of its row. */
static int *find(struct cache *cache, const char *key)
{
    int *link = bucket_of(cache, key);
    while (*link != NONE && strcmp(cache->entries[*link].key, key) != 0)
        link = &cache->entries[*link].next;
    return link;
}

/* Removes an entry. The caller frees its object. */
static void unlink_entry(struct cache *cache, int *link)
{
    int index = *link;
    *link = cache->entries[index].next;
    cache->entries[index].next = cache->free;
    cache->free = index;
    cache->count--;
}

/* The evict callback: drops the entry and its object. */
static int evict(void *context, struct zs_pool *pool, zs_handle_t handle)
{
    struct cache *cache = context;
    struct head head;
    OK(zs_obj_read(pool, handle, &head, sizeof head));
    struct entry *entry = &cache->entries[head.entry];
    CHECK(entry->handle == handle);
    unlink_entry(cache, find(cache, entry->key));
    cache->evicted++;
    return zs_free(pool, handle);
}

static struct cache *new_cache(uint64_t max_bytes)
{
    struct cache *cache = malloc(sizeof *cache);
    CHECK(cache != NULL);
    for (int i = 0; i < BUCKETS; i++)
        cache->buckets[i] = NONE;
    for (int i = 0; i < MOST_ENTRIES; i++)
        cache->entries[i].next = i + 1 < MOST_ENTRIES ? i + 1 : NONE;
    cache->free = 0;
    cache->count = cache->evicted = 0;
    cache->pool = pool_with(max_bytes, 0);
    OK(zs_set_evict(cache->pool, evict, cache));
    return cache;
}

static void end_cache(struct cache *cache)
{
    OK(zs_destroy_pool(cache->pool));
    free(cache);
}

static void drop(struct cache *cache, const char *key)
{
    int *link = find(cache, key);
    if (*link == NONE)
        return;
    zs_handle_t handle = cache->entries[*link].handle;
    unlink_entry(cache, link);
    OK(zs_free(cache->pool, handle));
}

/* Allocates and maps an object, and makes room until that succeeds. Returns NULL if there is none. */
static void *make_room(struct cache *cache, size_t size, zs_handle_t *handle)
{
    void *object;
    while ((object = zs_malloc_mapped(cache->pool, size, handle)) == NULL && zs_last_errno() == -ENOMEM) {
        uint64_t pages;
        int result = zs_shrink(cache->pool, 16, &pages);
        if (result == 0 || result == -EAGAIN)
            result = zs_compact(cache->pool, NULL, &pages);
        if (result != 0)
            return NULL;
    }
    return object;
}

static int put(struct cache *cache, const char *key, const void *value, size_t size)
{
    unsigned char runs[ZS_MAX_ALLOC_SIZE - sizeof(struct head)];
    size_t stored = compress(value, size, runs, sizeof runs);
    if (stored == 0 || strlen(key) >= sizeof cache->entries->key)
        return -ENOSPC;
    zs_handle_t handle;
    unsigned char *object = make_room(cache, sizeof(struct head) + stored, &handle);
    if (object == NULL)
        return zs_last_errno();
    drop(cache, key);
    CHECK(cache->free != NONE);
    struct head head = {cache->free, (uint32_t)stored};
    struct entry *entry = &cache->entries[head.entry];
    cache->free = entry->next;
    memcpy(object, &head, sizeof head);
    memcpy(object + sizeof head, runs, stored);

    strcpy(entry->key, key);
    entry->handle = handle;
    entry->bytes = (uint32_t)size;
    int *bucket = bucket_of(cache, key);
    entry->next = *bucket;
    *bucket = head.entry;
    cache->count++;
    /* From here on the object may be offered to the callback, which finds a complete entry. */
    return zs_unmap_object(cache->pool, handle);
}

/* Returns the size of the value, or 0 if there is none. */
static size_t get(struct cache *cache, const char *key, void *value, size_t room)
{
    int index = *find(cache, key);
    if (index == NONE)
        return 0;
    struct entry *entry = &cache->entries[index];
    struct head head;
    void *object;
    object = MAPPED(zs_map_object(cache->pool, entry->handle, ZS_MM_RO));
    memcpy(&head, object, sizeof head);
    CHECK(head.entry == index);
    size_t size = decompress((unsigned char *)object + sizeof head, head.stored, value, room);
    OK(zs_unmap_object(cache->pool, entry->handle));
    CHECK(size == entry->bytes);
    return size;
}

/* Makes the value for a number: runs of letters. Returns its size. */
static size_t value_of(uint64_t number, char *value)
{
    uint64_t random = number;
    size_t size = 1 + next_random(&random) % MOST_VALUE, at = 0;
    while (at < size) {
        size_t run = 1 + next_random(&random) % 100;
        char letter = (char)('a' + next_random(&random) % 26);
        for (; run > 0 && at < size; run--)
            value[at++] = letter;
    }
    return size;
}

static int has(struct cache *cache, uint64_t number)
{
    char key[24], expected[MOST_VALUE], value[MOST_VALUE];
    snprintf(key, sizeof key, "key %llu", (unsigned long long)number);
    size_t size = get(cache, key, value, sizeof value);
    if (size == 0)
        return 0;
    CHECK(size == value_of(number, expected) && memcmp(value, expected, size) == 0);
    return 1;
}

int main(void)
{
    uint64_t numbers = is_slow() ? 20000 : 60000;
    struct cache *cache = new_cache(2 * MIB);
    char key[24], value[MOST_VALUE];
    for (uint64_t i = 0; i < numbers; i++) {
        snprintf(key, sizeof key, "key %llu", (unsigned long long)i);
        OK(put(cache, key, value, value_of(i, value)));
        CHECK(has(cache, i));
        /* The favourite is read all the time. */
        has(cache, 0);
        CHECK(total_pages(cache->pool) * 4096 <= 2 * MIB);
    }
    uint64_t found = 0;
    for (uint64_t i = 0; i < numbers; i++)
        found += (uint64_t)has(cache, i);
    CHECK(found == cache->count && found + cache->evicted == numbers && cache->evicted > 0);
    CHECK(stats_of(cache->pool).objects == found && has(cache, numbers - 1));

    /* Replace a value, and drop it. */
    OK(put(cache, "key 7", "aaaa", 4));
    CHECK(get(cache, "key 7", value, sizeof value) == 4 && memcmp(value, "aaaa", 4) == 0);
    drop(cache, "key 7");
    CHECK(get(cache, "key 7", value, sizeof value) == 0);
    for (size_t i = 0; i < sizeof value; i++)
        value[i] = (char)('a' + i % 2);
    RESULT(put(cache, "does not compress", value, sizeof value), -ENOSPC);
    printf("cache: ok, %llu of %llu values are in 2 MiB, %llu were evicted, the favourite is %s\n",
           (unsigned long long)found, (unsigned long long)numbers, (unsigned long long)cache->evicted,
           has(cache, 0) ? "there" : "gone");
    end_cache(cache);
    return 0;
}
