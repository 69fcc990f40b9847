/* Makes the n-th system call of a kind fail, with an error number that the call is known to return.

   The program defines functions of the C library itself, so zsalloc's calls come here. Each function counts the calls
   of its kind, and passes on those that it does not refuse. A test in tests/c_api.rs compares these functions with
   what zsalloc imports: add a new one here, or to the list of exceptions there. */
#ifndef REFUSE_H
#define REFUSE_H

#include "check.h"
#include <dlfcn.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/sysinfo.h>
#include <sys/uio.h>
#include <sys/utsname.h>
#include <unistd.h>

#ifndef SYS_cachestat
#define SYS_cachestat 451
#endif
#ifndef UFFDIO_MOVE
struct uffdio_move {
    __u64 dst, src, len, mode;
    __s64 move;
};
#define UFFDIO_MOVE _IOWR(0xAA, 0x05, struct uffdio_move)
#endif
#ifndef UFFDIO_POISON
struct uffdio_poison {
    struct uffdio_range range;
    __u64 mode;
    __s64 updated;
};
#define UFFDIO_POISON _IOWR(0xAA, 0x08, struct uffdio_poison)
#endif

/* Used in place of an error number: the call does only part of its work. */
enum { A_PART = -1 };

/* The kinds of system calls, and what each may be refused with. Error numbers that tell of memory are no refusals, for
   a system that is wrong there is broken: EEXIST of a page that is not there, ENOMEM of madvise() and EINVAL of
   UFFDIO_UNREGISTER, which say that memory is not mapped. */
#define KINDS                                                                                                          \
    KIND(MMAP, "mmap", ENOMEM, EAGAIN, EPERM)                                                                          \
    KIND(MUNMAP, "munmap", ENOMEM, EPERM)                                                                              \
    KIND(MUNLOCK, "munlock", ENOMEM, EPERM)                                                                            \
    KIND(MPROTECT, "mprotect", ENOMEM, EACCES)                                                                         \
    KIND(DONTNEED, "madvise to drop memory", ENOMEM, EINVAL, EAGAIN, EPERM)                                            \
    KIND(REMOVE, "madvise to make a hole", ENOMEM, EINVAL, EACCES, EINTR)                                              \
    KIND(ADVICE, "madvise", EINVAL, EAGAIN, EPERM)                                                                     \
    KIND(DROP_MANY, "process_madvise", ENOMEM, EINTR, EPERM, ENOSYS, EINVAL, A_PART)                                   \
    KIND(MINCORE, "mincore", ENOMEM, EAGAIN, EPERM)                                                                    \
    KIND(MEMFD, "memfd_create", EMFILE, ENFILE, ENOMEM, EPERM, ENOSYS)                                                 \
    KIND(FTRUNCATE, "ftruncate", ENOMEM, EFBIG, EINTR, EIO, ENOSPC)                                                    \
    KIND(FALLOCATE, "fallocate", ENOSPC, ENOMEM, EINTR, EPERM, EOPNOTSUPP)                                             \
    KIND(DUPLICATE, "fcntl to duplicate", EMFILE, EPERM)                                                               \
    KIND(SEAL, "fcntl to seal", EPERM, EINVAL)                                                                         \
    KIND(FLAGS, "fcntl", EPERM)                                                                                        \
    KIND(STAT, "fstat", EIO, ENOMEM, EOVERFLOW)                                                                        \
    KIND(STATFS, "fstatfs", EIO, ENOMEM, EINTR)                                                                        \
    KIND(OPEN, "open", EMFILE, ENFILE, ENOMEM, EACCES, ENOENT)                                                         \
    KIND(CLOSE, "close", EIO, EINTR)                                                                                   \
    KIND(SEEK, "lseek", EIO, EINVAL)                                                                                   \
    KIND(READ, "read", EAGAIN, EINTR, EIO)                                                                             \
    KIND(WRITE, "write", EAGAIN, EINTR)                                                                                \
    KIND(PREAD, "pread", EIO, EINTR, ENOMEM, EAGAIN, A_PART)                                                           \
    KIND(PWRITE, "pwrite", EIO, ENOSPC, EDQUOT, EINTR, ENOMEM, A_PART)                                                 \
    KIND(POLL, "poll", EINTR, ENOMEM)                                                                                  \
    KIND(EVENTFD, "eventfd", EMFILE, ENFILE, ENOMEM)                                                                   \
    KIND(READV, "process_vm_readv", EPERM, ENOSYS, ENOMEM, EFAULT, A_PART)                                             \
    KIND(WRITEV, "process_vm_writev", EPERM, ENOSYS, ENOMEM, EFAULT)                                                   \
    KIND(CACHESTAT, "cachestat", ENOSYS, EPERM, EOPNOTSUPP)                                                            \
    KIND(FUTEX, "futex", EINTR)                                                                                        \
    KIND(SIGACTION, "sigaction", EPERM)                                                                                \
    KIND(AFFINITY, "sched_getaffinity", EPERM, EINVAL)                                                                 \
    KIND(UNAME, "uname and sysinfo", EPERM)                                                                            \
    KIND(USERFAULTFD, "userfaultfd", EPERM, ENOSYS, EMFILE, ENFILE, ENOMEM, EINVAL)                                    \
    KIND(API, "UFFDIO_API", EINVAL, ENOMEM, EPERM)                                                                     \
    KIND(REGISTER, "UFFDIO_REGISTER", ENOMEM, EBUSY, EINVAL, EPERM)                                                    \
    KIND(UNREGISTER, "UFFDIO_UNREGISTER", ENOMEM)                                                                      \
    KIND(WAKE, "UFFDIO_WAKE", EINVAL)                                                                                  \
    KIND(COPY, "UFFDIO_COPY", ENOMEM, EAGAIN, EPERM, A_PART)                                                           \
    KIND(ZERO, "UFFDIO_ZEROPAGE", ENOMEM, EAGAIN, EPERM)                                                               \
    KIND(MOVE, "UFFDIO_MOVE", ENOMEM, EAGAIN, EBUSY, EINVAL, A_PART)                                                   \
    KIND(PROTECT, "UFFDIO_WRITEPROTECT", ENOMEM, EAGAIN, EPERM)                                                        \
    KIND(POISON, "UFFDIO_POISON", ENOMEM, EAGAIN)                                                                      \
    KIND(CONTINUE, "UFFDIO_CONTINUE", ENOMEM, EAGAIN, A_PART)                                                          \
    KIND(MAPS, "PROCMAP_QUERY", ENOTTY, EPERM, ENOMEM)

enum kind {
#define KIND(kind, ...) OF_##kind,
    KINDS
#undef KIND
        KIND_COUNT
};

static const struct {
    const char *name;
    int refusals[8];
} kinds[KIND_COUNT] = {
#define KIND(kind, name, ...) {name, {__VA_ARGS__}},
    KINDS
#undef KIND
};

/* While this is set, calls are counted, and refused if the test asks for it. */
static atomic_int watched;
static atomic_int calls_of[KIND_COUNT];
/* Number of refused calls. */
static atomic_int refusals;
/* What is refused: calls of a kind, from which one on, how many, and with which error. */
static struct {
    enum kind kind;
    int from, times, how;
} refused;

/* Returns the error to return in place of the call's result, or 0. */
static inline int refusal_of(enum kind kind)
{
    if (!atomic_load(&watched))
        return 0;
    int call = atomic_fetch_add(&calls_of[kind], 1) + 1;
    if (refused.from == 0 || kind != refused.kind || call < refused.from || call - refused.from >= refused.times)
        return 0;
    atomic_fetch_add(&refusals, 1);
    if (refused.how != A_PART)
        errno = refused.how;
    return refused.how;
}

/* Ranges whose munmap() was refused. The test unmaps them, so that it sees what else is left. */
static struct {
    void *at;
    size_t bytes;
} left_mapped[4096];
static atomic_int left_mapped_count;

#define REAL(name) static __typeof__(&name) real_##name;
#define FIND_REAL(name)                                                                                                \
    do {                                                                                                               \
        void *found_ = dlsym(RTLD_NEXT, #name);                                                                        \
        if (found_ == NULL)                                                                                            \
            abort();                                                                                                   \
        memcpy(&real_##name, &found_, sizeof found_);                                                                  \
    } while (0);

#define REALS(each)                                                                                                    \
    each(mmap) each(munmap) each(munlock) each(mprotect) each(madvise) each(mincore) each(memfd_create)                \
    each(ftruncate) each(fallocate) each(fcntl) each(fstat) each(fstatfs) each(open) each(close) each(lseek)           \
    each(read) each(write) each(pread) each(pwrite) each(preadv2) each(pwritev2) each(poll) each(eventfd) each(process_vm_readv)                    \
    each(process_vm_writev) each(syscall) each(sigaction) each(sched_getaffinity) each(uname) each(sysinfo)            \
    each(ioctl)

REALS(REAL)

__attribute__((constructor)) static void find_reals(void)
{
    REALS(FIND_REAL)
}

#define REFUSE(kind)                                                                                                   \
    if (refusal_of(kind) != 0)                                                                                         \
    return -1

/* Returns half of the pages of a range, and at least one byte less than the whole. */
static inline size_t a_part_of(size_t bytes)
{
    return bytes / 2 & ~(size_t)4095;
}

void *mmap(void *at, size_t bytes, int access, int flags, int fd, off_t offset)
{
    return refusal_of(OF_MMAP) != 0 ? MAP_FAILED : real_mmap(at, bytes, access, flags, fd, offset);
}

void *mmap64(void *at, size_t bytes, int access, int flags, int fd, off64_t offset)
{
    return mmap(at, bytes, access, flags, fd, offset);
}

int munmap(void *at, size_t bytes)
{
    if (refusal_of(OF_MUNMAP) == 0)
        return real_munmap(at, bytes);
    int place = atomic_fetch_add(&left_mapped_count, 1);
    CHECK(place < 4096);
    left_mapped[place].at = at;
    left_mapped[place].bytes = bytes;
    return -1;
}

int munlock(const void *at, size_t bytes)
{
    REFUSE(OF_MUNLOCK);
    return real_munlock(at, bytes);
}

int mprotect(void *at, size_t bytes, int access)
{
    REFUSE(OF_MPROTECT);
    return real_mprotect(at, bytes, access);
}

int madvise(void *at, size_t bytes, int advice)
{
    /* MADV_DONTNEED_LOCKED is 24. */
    REFUSE(advice == MADV_DONTNEED || advice == 24 ? OF_DONTNEED : advice == MADV_REMOVE ? OF_REMOVE : OF_ADVICE);
    return real_madvise(at, bytes, advice);
}

int mincore(void *at, size_t bytes, unsigned char *seen)
{
    REFUSE(OF_MINCORE);
    return real_mincore(at, bytes, seen);
}

int memfd_create(const char *name, unsigned int flags)
{
    REFUSE(OF_MEMFD);
    return real_memfd_create(name, flags);
}

int ftruncate(int fd, off_t bytes)
{
    REFUSE(OF_FTRUNCATE);
    return real_ftruncate(fd, bytes);
}

int fallocate(int fd, int mode, off_t offset, off_t bytes)
{
    REFUSE(OF_FALLOCATE);
    return real_fallocate(fd, mode, offset, bytes);
}

int fcntl(int fd, int command, ...)
{
    va_list arguments;
    va_start(arguments, command);
    long argument = va_arg(arguments, long);
    va_end(arguments);
    /* Debug builds use F_GETFD to check that a descriptor is open before they close it. */
    if (command != F_GETFD) {
        int is_seal = command == F_ADD_SEALS || command == F_GET_SEALS;
        REFUSE(command == F_DUPFD_CLOEXEC ? OF_DUPLICATE : is_seal ? OF_SEAL : OF_FLAGS);
    }
    return real_fcntl(fd, command, argument);
}

int fstat(int fd, struct stat *stat)
{
    REFUSE(OF_STAT);
    return real_fstat(fd, stat);
}

int fstat64(int fd, struct stat64 *stat)
{
    return fstat(fd, (struct stat *)stat);
}

int fstatfs(int fd, struct statfs *stat)
{
    REFUSE(OF_STATFS);
    return real_fstatfs(fd, stat);
}

int open(const char *path, int flags, ...)
{
    va_list arguments;
    va_start(arguments, flags);
    int mode = va_arg(arguments, int);
    va_end(arguments);
    REFUSE(OF_OPEN);
    return real_open(path, flags, mode);
}

int open64(const char *path, int flags, ...)
{
    return open(path, flags, 0);
}

int close(int fd)
{
    /* Linux closes the descriptor even if close() fails. */
    int how = refusal_of(OF_CLOSE), result = real_close(fd);
    if (how != 0)
        errno = how;
    return how != 0 ? -1 : result;
}

off_t lseek(int fd, off_t offset, int whence)
{
    REFUSE(OF_SEEK);
    return real_lseek(fd, offset, whence);
}

off64_t lseek64(int fd, off64_t offset, int whence)
{
    return lseek(fd, offset, whence);
}

ssize_t read(int fd, void *bytes, size_t count)
{
    REFUSE(OF_READ);
    return real_read(fd, bytes, count);
}

ssize_t write(int fd, const void *bytes, size_t count)
{
    REFUSE(OF_WRITE);
    return real_write(fd, bytes, count);
}

ssize_t pread(int fd, void *bytes, size_t count, off_t offset)
{
    int how = refusal_of(OF_PREAD);
    return how == 0 || how == A_PART ? real_pread(fd, bytes, how == 0 ? count : count / 2, offset) : -1;
}

ssize_t pread64(int fd, void *bytes, size_t count, off64_t offset)
{
    return pread(fd, bytes, count, offset);
}

ssize_t pwrite(int fd, const void *bytes, size_t count, off_t offset)
{
    int how = refusal_of(OF_PWRITE);
    return how == 0 || how == A_PART ? real_pwrite(fd, bytes, how == 0 ? count : count / 2, offset) : -1;
}

ssize_t preadv2(int fd, const struct iovec *parts, int count, off_t offset, int flags)
{
    int how = refusal_of(OF_PREAD);
    struct iovec part = {parts[0].iov_base, how == 0 ? parts[0].iov_len : parts[0].iov_len / 2};
    return how == 0 || how == A_PART ? real_preadv2(fd, &part, count, offset, flags) : -1;
}

ssize_t pwritev2(int fd, const struct iovec *parts, int count, off_t offset, int flags)
{
    int how = refusal_of(OF_PWRITE);
    struct iovec part = {parts[0].iov_base, how == 0 ? parts[0].iov_len : parts[0].iov_len / 2};
    return how == 0 || how == A_PART ? real_pwritev2(fd, &part, count, offset, flags) : -1;
}

ssize_t pwrite64(int fd, const void *bytes, size_t count, off64_t offset)
{
    return pwrite(fd, bytes, count, offset);
}

int poll(struct pollfd *fds, nfds_t count, int limit)
{
    REFUSE(OF_POLL);
    return real_poll(fds, count, limit);
}

int eventfd(unsigned int count, int flags)
{
    REFUSE(OF_EVENTFD);
    return real_eventfd(count, flags);
}

ssize_t process_vm_readv(pid_t of, const struct iovec *local, unsigned long locals, const struct iovec *remote,
                         unsigned long remotes, unsigned long flags)
{
    int how = refusal_of(OF_READV);
    if (how == A_PART)
        remotes = (remotes + 1) / 2;
    else if (how != 0)
        return -1;
    return real_process_vm_readv(of, local, locals, remote, remotes, flags);
}

ssize_t process_vm_writev(pid_t of, const struct iovec *local, unsigned long locals, const struct iovec *remote,
                          unsigned long remotes, unsigned long flags)
{
    REFUSE(OF_WRITEV);
    return real_process_vm_writev(of, local, locals, remote, remotes, flags);
}

int sigaction(int signal, const struct sigaction *action, struct sigaction *before)
{
    REFUSE(OF_SIGACTION);
    return real_sigaction(signal, action, before);
}

int sched_getaffinity(pid_t of, size_t bytes, cpu_set_t *set)
{
    REFUSE(OF_AFFINITY);
    return real_sched_getaffinity(of, bytes, set);
}

int uname(struct utsname *name)
{
    REFUSE(OF_UNAME);
    return real_uname(name);
}

int sysinfo(struct sysinfo *info)
{
    REFUSE(OF_UNAME);
    return real_sysinfo(info);
}

long syscall(long number, ...)
{
    long of[6];
    va_list arguments;
    va_start(arguments, number);
    for (int at = 0; at < 6; at++)
        of[at] = va_arg(arguments, long);
    va_end(arguments);
    int how = 0;
    if (number == SYS_futex)
        how = refusal_of(OF_FUTEX);
    else if (number == SYS_userfaultfd)
        how = refusal_of(OF_USERFAULTFD);
    else if (number == SYS_cachestat)
        how = refusal_of(OF_CACHESTAT);
    else if (number == SYS_process_madvise)
        how = refusal_of(OF_DROP_MANY);
    else
        CHECK(!"the library makes this system call by syscall(), and c-tests/refuse.h refuses it");
    /* Only the first half of several ranges. */
    if (how == A_PART && of[2] > 1)
        of[2] /= 2;
    else if (how != 0)
        return errno = how == A_PART ? ENOMEM : how, -1;
    return real_syscall(number, of[0], of[1], of[2], of[3], of[4], of[5]);
}

/* Refuses an ioctl that fills or moves pages. `asked` and `done` are its fields for requested and done bytes. */
static inline int refuse_pages(enum kind kind, int fd, unsigned long request, void *argument, __u64 *asked, __s64 *done)
{
    int how = refusal_of(kind);
    if (how == 0)
        return real_ioctl(fd, request, argument);
    size_t all = *asked, part = a_part_of(all);
    if (how == A_PART && part > 0) {
        *asked = part;
        int result = real_ioctl(fd, request, argument);
        *asked = all;
        if (result != 0)
            return result;
        /* This is how the system reports that it did only a part. */
        *done = (__s64)part;
        errno = EAGAIN;
        return -1;
    }
    errno = how == A_PART ? EAGAIN : how;
    *done = -errno;
    return -1;
}

int ioctl(int fd, unsigned long request, ...)
{
    va_list arguments;
    va_start(arguments, request);
    void *argument = va_arg(arguments, void *);
    va_end(arguments);
    switch (request & 0xffffffff) {
    case UFFDIO_API:
        REFUSE(OF_API);
        break;
    case UFFDIO_REGISTER:
        REFUSE(OF_REGISTER);
        break;
    case UFFDIO_UNREGISTER:
        REFUSE(OF_UNREGISTER);
        break;
    case UFFDIO_WAKE:
        REFUSE(OF_WAKE);
        break;
    case UFFDIO_WRITEPROTECT:
        REFUSE(OF_PROTECT);
        break;
    case UFFDIO_COPY: {
        struct uffdio_copy *copy = argument;
        return refuse_pages(OF_COPY, fd, request, argument, &copy->len, &copy->copy);
    }
    case UFFDIO_MOVE: {
        struct uffdio_move *move = argument;
        return refuse_pages(OF_MOVE, fd, request, argument, &move->len, &move->move);
    }
    case UFFDIO_ZEROPAGE: {
        struct uffdio_zeropage *zero = argument;
        return refuse_pages(OF_ZERO, fd, request, argument, &zero->range.len, &zero->zeropage);
    }
    case UFFDIO_POISON: {
        struct uffdio_poison *poison = argument;
        return refuse_pages(OF_POISON, fd, request, argument, &poison->range.len, &poison->updated);
    }
    case UFFDIO_CONTINUE: {
        struct uffdio_continue *continued = argument;
        return refuse_pages(OF_CONTINUE, fd, request, argument, &continued->range.len, &continued->mapped);
    }
    default:
        /* PROCMAP_QUERY, or creation of a userfaultfd through /dev/userfaultfd. */
        REFUSE((request & 0xffff) == ('f' << 8 | 17) ? OF_MAPS : OF_USERFAULTFD);
    }
    return real_ioctl(fd, request, argument);
}

/* Number of live allocations of the C library's malloc(). */
static atomic_long allocations;

void *__libc_malloc(size_t size);
void *__libc_calloc(size_t count, size_t size);
void *__libc_realloc(void *old, size_t size);
void *__libc_memalign(size_t alignment, size_t size);
void __libc_free(void *memory);

static inline void *allocated(void *memory)
{
    if (memory != NULL)
        atomic_fetch_add(&allocations, 1);
    return memory;
}

void *malloc(size_t size)
{
    return allocated(__libc_malloc(size));
}

void *calloc(size_t count, size_t size)
{
    return allocated(__libc_calloc(count, size));
}

void *realloc(void *old, size_t size)
{
    return old == NULL ? malloc(size) : __libc_realloc(old, size);
}

void *aligned_alloc(size_t alignment, size_t size)
{
    return allocated(__libc_memalign(alignment, size));
}

int posix_memalign(void **new, size_t alignment, size_t size)
{
    void *memory = allocated(__libc_memalign(alignment, size));
    if (memory == NULL)
        return ENOMEM;
    *new = memory;
    return 0;
}

void free(void *memory)
{
    if (memory != NULL)
        atomic_fetch_sub(&allocations, 1);
    __libc_free(memory);
}

#endif
