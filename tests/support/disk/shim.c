// SPDX-License-Identifier: Apache-2.0
// Preloaded into a process: reports syncs, makes the disk fail, moves the wall clock, and gives
// another boot id. What it does is in a control file that the test writes at any time (shim.py).
//
//   DISK_SHIM_CONTROL  the control file, of struct control
//   DISK_SHIM_ROOT     syncs below this directory are reported ...
//   DISK_SHIM_SOCKET   ... to this Unix socket, and wait for an answer
//   DISK_SHIM_BOOT_ID  file that is opened in place of the kernel's boot id

#define _GNU_SOURCE
#include <dlfcn.h>
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/futex.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

enum { WRITE = 1, SYNC = 2, CREATE = 4, RULES = 4 };

// As shim.py packs it.
struct rule {
  uint32_t operations;  // which ones it is about; 0: the rule is off
  int32_t error;
  uint32_t per_million;  // of the operations that match, how many fail
  uint32_t skip;         // operations that match and are let through before
  uint32_t most;         // so many fail, then no more
  uint32_t failed;       // how often it made something fail
  char prefix[232];      // of the path
};

struct control {
  int64_t clock_offset_ns;
  struct rule rules[RULES];
};

static struct control nothing;
static struct control *control = &nothing;
static const char *root, *socket_path, *boot_id;

#define REAL(name) ((__typeof__(&name))real(#name))

// The loader's lock is not held here for long, and the answer never changes.
static void *real(const char *name) { return dlsym(RTLD_NEXT, name); }

// ---- faults ----

static int is_below(const char *path, const char *prefix) {
  size_t length = strlen(prefix);
  return strncmp(path, prefix, length) == 0 && (path[length] == 0 || path[length] == '/');
}

static int fails(uint32_t operation, const char *path) {
  for (int i = 0; i < RULES; i++) {
    struct rule *rule = &control->rules[i];
    if (!(__atomic_load_n(&rule->operations, __ATOMIC_ACQUIRE) & operation)) continue;
    if (!is_below(path, rule->prefix)) continue;
    if (__atomic_load_n(&rule->skip, __ATOMIC_RELAXED) > 0) {
      __atomic_fetch_sub(&rule->skip, 1, __ATOMIC_RELAXED);
      continue;
    }
    if ((uint32_t)(random() % 1000000) >= rule->per_million) continue;
    if (__atomic_load_n(&rule->failed, __ATOMIC_RELAXED) >= rule->most) continue;
    __atomic_fetch_add(&rule->failed, 1, __ATOMIC_RELAXED);
    errno = rule->error;
    return 1;
  }
  return 0;
}

static int is_ruled(uint32_t operation) {
  uint32_t ruled = 0;
  for (int i = 0; i < RULES; i++)
    ruled |= __atomic_load_n(&control->rules[i].operations, __ATOMIC_ACQUIRE);
  return (ruled & operation) != 0;
}

// Gives the path of a descriptor; "" where it has none.
static const char *path_of(int fd, char *buffer) {
  char link[64];
  int error = errno;
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  ssize_t length = readlink(link, buffer, PATH_MAX - 1);
  buffer[length < 0 ? 0 : length] = 0;
  errno = error;
  return buffer;
}

static const char *absolute(int directory, const char *path, char *buffer) {
  char base[PATH_MAX];
  if (path[0] == '/') return path;
  if (directory == AT_FDCWD) {
    if (!getcwd(base, sizeof base)) base[0] = 0;
  } else {
    path_of(directory, base);
  }
  if (snprintf(buffer, PATH_MAX, "%s/%s", base, path) >= PATH_MAX) buffer[0] = 0;
  return buffer;
}

static int fd_fails(uint32_t operation, int fd) {
  char buffer[PATH_MAX];
  return is_ruled(operation) && fails(operation, path_of(fd, buffer));
}

static int create_fails(int directory, const char *path) {
  char buffer[PATH_MAX];
  return is_ruled(CREATE) && fails(CREATE, absolute(directory, path, buffer));
}

#define WRITES(type, name, parameters, arguments)   \
  type name parameters {                            \
    if (fd_fails(WRITE, fd)) return -1;             \
    return REAL(name) arguments;                    \
  }

WRITES(ssize_t, write, (int fd, const void *data, size_t size), (fd, data, size))
WRITES(ssize_t, pwrite, (int fd, const void *data, size_t size, off_t at), (fd, data, size, at))
WRITES(ssize_t, pwrite64, (int fd, const void *data, size_t size, off64_t at), (fd, data, size, at))
WRITES(ssize_t, writev, (int fd, const struct iovec *data, int count), (fd, data, count))
WRITES(ssize_t, pwritev, (int fd, const struct iovec *data, int count, off_t at),
       (fd, data, count, at))
WRITES(ssize_t, pwritev64, (int fd, const struct iovec *data, int count, off64_t at),
       (fd, data, count, at))

#define CREATES(name, directory, path, parameters, arguments) \
  int name parameters {                                       \
    if (create_fails(directory, path)) return -1;             \
    return REAL(name) arguments;                              \
  }

CREATES(mkdir, AT_FDCWD, path, (const char *path, mode_t mode), (path, mode))
CREATES(mkdirat, fd, path, (int fd, const char *path, mode_t mode), (fd, path, mode))
CREATES(link, AT_FDCWD, to, (const char *from, const char *to), (from, to))
CREATES(symlink, AT_FDCWD, to, (const char *from, const char *to), (from, to))
CREATES(rename, AT_FDCWD, to, (const char *from, const char *to), (from, to))
CREATES(renameat, to_fd, to, (int fd, const char *from, int to_fd, const char *to),
        (fd, from, to_fd, to))
CREATES(linkat, to_fd, to, (int fd, const char *from, int to_fd, const char *to, int flags),
        (fd, from, to_fd, to, flags))

#define IS_BOOT_ID(path) (boot_id && strcmp(path, "/proc/sys/kernel/random/boot_id") == 0)
#define MAKES(flags) (((flags) & O_CREAT) || ((flags) & O_TMPFILE) == O_TMPFILE)

#define OPENS(name, at, parameters, arguments) \
  int name parameters {                        \
    mode_t mode = 0;                           \
    if (MAKES(flags)) {                        \
      va_list rest;                            \
      va_start(rest, flags);                   \
      mode = va_arg(rest, mode_t);             \
      va_end(rest);                            \
      if (create_fails(at, path)) return -1;   \
    }                                          \
    if (IS_BOOT_ID(path)) path = boot_id;      \
    return REAL(name) arguments;               \
  }

OPENS(open, AT_FDCWD, (const char *path, int flags, ...), (path, flags, mode))
OPENS(open64, AT_FDCWD, (const char *path, int flags, ...), (path, flags, mode))
OPENS(openat, fd, (int fd, const char *path, int flags, ...), (fd, path, flags, mode))
OPENS(openat64, fd, (int fd, const char *path, int flags, ...), (fd, path, flags, mode))

// ---- syncs ----

// Returns whether somebody keeps account of what is durable: then the real disk need not.
static int reported(const char *name, int fd) {
  char message[PATH_MAX + 64], path[PATH_MAX], answer;
  if (!socket_path || (fd >= 0 && !is_below(path_of(fd, path), root))) return 0;
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  snprintf(address.sun_path, sizeof address.sun_path, "%s", socket_path);
  int connection = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (connection < 0) abort();
  if (connect(connection, (struct sockaddr *)&address, sizeof address) != 0) abort();
  int length = snprintf(message, sizeof message, "%s %d\n", name, fd);
  if (send(connection, message, length, MSG_NOSIGNAL) != length) abort();
  ssize_t size;
  do size = recv(connection, &answer, 1, 0);
  while (size < 0 && errno == EINTR);
  // A sync of which nobody knows whether it was done would make the test say what is not so.
  if (size != 1) abort();
  close(connection);
  return 1;
}

#define SYNCS(name)                     \
  int name(int fd) {                    \
    if (fd_fails(SYNC, fd)) return -1;  \
    if (reported(#name, fd)) return 0;  \
    return REAL(name)(fd);              \
  }

SYNCS(fsync)
SYNCS(fdatasync)
SYNCS(syncfs)

void sync(void) {
  if (!reported("sync", -1)) REAL(sync)();
}

// ---- the wall clock ----

static struct timespec moved(const struct timespec *at, int64_t by_ns) {
  int64_t ns = at->tv_nsec + by_ns % 1000000000;
  struct timespec result = {at->tv_sec + by_ns / 1000000000, ns};
  if (ns < 0) result.tv_sec--, result.tv_nsec += 1000000000;
  if (ns >= 1000000000) result.tv_sec++, result.tv_nsec -= 1000000000;
  return result;
}

static int64_t offset_ns(void) { return __atomic_load_n(&control->clock_offset_ns, __ATOMIC_RELAXED); }

static long raw_clock_gettime(clockid_t clock, struct timespec *at) {
  long result;
  __asm__ volatile("syscall"
                   : "=a"(result)
                   : "0"((long)SYS_clock_gettime), "D"((long)clock), "S"(at)
                   : "rcx", "r11", "memory");
  return result;
}

static int shifted_clock_gettime(clockid_t clock, struct timespec *at) {
  long result = raw_clock_gettime(clock, at);
  if (result == 0 && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE))
    *at = moved(at, offset_ns());
  return (int)result;
}

static int shifted_gettimeofday(struct timeval *at, void *zone) {
  struct timespec now;
  (void)zone;
  if (!at) return 0;
  shifted_clock_gettime(CLOCK_REALTIME, &now);
  at->tv_sec = now.tv_sec;
  at->tv_usec = now.tv_nsec / 1000;
  return 0;
}

static time_t shifted_time(time_t *at) {
  struct timespec now;
  shifted_clock_gettime(CLOCK_REALTIME_COARSE, &now);
  if (at) *at = now.tv_sec;
  return now.tv_sec;
}

// The engine finds the kernel's clock in the vDSO by itself, past libc: so that is where it is
// changed, once for all.
static void redirect(uint8_t *function, void *target) {
  uint8_t jump[12] = {0x48, 0xb8, [10] = 0xff, 0xe0};  // movabs rax, target; jmp rax
  memcpy(jump + 2, &target, sizeof target);
  memcpy(function, jump, sizeof jump);
}

static void take_over_vdso(void) {
  uint8_t *base = (uint8_t *)getauxval(AT_SYSINFO_EHDR);
  if (!base) abort();
  Elf64_Ehdr *header = (Elf64_Ehdr *)base;
  Elf64_Phdr *segments = (Elf64_Phdr *)(base + header->e_phoff);
  Elf64_Dyn *dynamic = NULL;
  size_t size = 0;
  for (int i = 0; i < header->e_phnum; i++) {
    if (segments[i].p_type == PT_DYNAMIC) dynamic = (Elf64_Dyn *)(base + segments[i].p_offset);
    if (segments[i].p_type == PT_LOAD) size = segments[i].p_vaddr + segments[i].p_memsz;
  }
  Elf64_Sym *symbols = NULL;
  const char *names = NULL;
  for (; dynamic && dynamic->d_tag != DT_NULL; dynamic++) {
    if (dynamic->d_tag == DT_SYMTAB) symbols = (Elf64_Sym *)(base + dynamic->d_un.d_ptr);
    if (dynamic->d_tag == DT_STRTAB) names = (const char *)(base + dynamic->d_un.d_ptr);
  }
  long page = sysconf(_SC_PAGESIZE);
  size = (size + page - 1) / page * page;
  if (!symbols || mprotect(base, size, PROT_READ | PROT_WRITE | PROT_EXEC) != 0) abort();
  // The strings follow the symbols.
  for (Elf64_Sym *symbol = symbols; (const char *)symbol < names; symbol++) {
    const char *name = names + symbol->st_name;
    uint8_t *function = base + symbol->st_value;
    if (strcmp(name, "__vdso_clock_gettime") == 0) redirect(function, shifted_clock_gettime);
    if (strcmp(name, "__vdso_gettimeofday") == 0) redirect(function, shifted_gettimeofday);
    if (strcmp(name, "__vdso_time") == 0) redirect(function, shifted_time);
  }
  mprotect(base, size, PROT_READ | PROT_EXEC);
}

// Deadlines by the wall clock go to the kernel, whose clock was not moved. A small one is of the
// monotonic clock.
static const struct timespec *kernel_deadline(const struct timespec *at, struct timespec *buffer) {
  if (!at || at->tv_sec < 1000000000) return at;
  *buffer = moved(at, -offset_ns());
  return buffer;
}

int pthread_cond_timedwait(pthread_cond_t *condition, pthread_mutex_t *mutex,
                           const struct timespec *at) {
  // Without its version, one for conditions of another layout would be found.
  int (*wait)(pthread_cond_t *, pthread_mutex_t *, const struct timespec *) =
      dlvsym(RTLD_NEXT, "pthread_cond_timedwait", "GLIBC_2.3.2");
  struct timespec buffer;
  return wait(condition, mutex, kernel_deadline(at, &buffer));
}

int sem_timedwait(sem_t *semaphore, const struct timespec *at) {
  struct timespec buffer;
  return REAL(sem_timedwait)(semaphore, kernel_deadline(at, &buffer));
}

long syscall(long number, ...) {
  va_list rest;
  long a[6];
  va_start(rest, number);
  for (int i = 0; i < 6; i++) a[i] = va_arg(rest, long);
  va_end(rest);
  struct timespec buffer;
  if (number == SYS_clock_gettime) {
    long result = shifted_clock_gettime((clockid_t)a[0], (struct timespec *)a[1]);
    if (result < 0) errno = (int)-result;
    return result < 0 ? -1 : result;
  }
  if (number == SYS_futex && (a[1] & FUTEX_CLOCK_REALTIME))
    a[3] = (long)kernel_deadline((const struct timespec *)a[3], &buffer);
  if (number == SYS_renameat2 && create_fails((int)a[2], (const char *)a[3])) return -1;
  return REAL(syscall)(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}

// The engine's library is loaded so that it looks for symbols in its own libraries first, which
// would pass by all that is in here.
void *dlopen(const char *path, int flags) { return REAL(dlopen)(path, flags & ~RTLD_DEEPBIND); }

__attribute__((constructor)) static void start(void) {
  const char *path = getenv("DISK_SHIM_CONTROL");
  root = getenv("DISK_SHIM_ROOT");
  socket_path = getenv("DISK_SHIM_SOCKET");
  boot_id = getenv("DISK_SHIM_BOOT_ID");
  if (!path || !root) return;
  int fd = open(path, O_RDWR | O_CLOEXEC);
  if (fd < 0) abort();
  control = mmap(NULL, sizeof *control, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (control == MAP_FAILED) abort();
  close(fd);
  take_over_vdso();
}
