/* Makes the disk slow for one process: loaded before the C library (LD_PRELOAD), it waits before each write to a file at a place,
 * and before each time such a file is brought to the disk. The file that SLOW_DISK names says for how many milliseconds; without
 * it, or where it is empty, nothing waits. What a process writes one byte after the other, such as its log, does not wait. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <time.h>
#include <unistd.h>

static void wait_for_the_disk(int file) {
  struct stat about;
  const char *name = getenv("SLOW_DISK");
  if (name == NULL || fstat(file, &about) != 0 || !S_ISREG(about.st_mode)) return;
  char text[16] = {0};
  int told = (int)syscall(SYS_openat, AT_FDCWD, name, O_RDONLY | O_CLOEXEC);
  if (told < 0) return;
  long read_bytes = syscall(SYS_read, told, text, sizeof text - 1);
  syscall(SYS_close, told);
  long millis = read_bytes > 0 ? atol(text) : 0;
  if (millis <= 0) return;
  struct timespec time = {.tv_sec = millis / 1000, .tv_nsec = millis % 1000 * 1000000};
  nanosleep(&time, NULL);
}

#define NEXT(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

ssize_t pwrite(int file, const void *bytes, size_t count, off_t at) {
  wait_for_the_disk(file);
  return NEXT(pwrite)(file, bytes, count, at);
}

ssize_t pwrite64(int file, const void *bytes, size_t count, off64_t at) {
  wait_for_the_disk(file);
  return NEXT(pwrite64)(file, bytes, count, at);
}

int fsync(int file) {
  wait_for_the_disk(file);
  return NEXT(fsync)(file);
}

int fdatasync(int file) {
  wait_for_the_disk(file);
  return NEXT(fdatasync)(file);
}
