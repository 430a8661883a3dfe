/* Shifts the wall clock of one process by the seconds that the file TSKV_CLOCK_FILE says at the moment (LD_PRELOAD). */
#include <fcntl.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

int clock_gettime(clockid_t clock, struct timespec *now) {
    int result = (int)syscall(SYS_clock_gettime, clock, now);
    const char *path = getenv("TSKV_CLOCK_FILE");
    if (result == 0 && clock == CLOCK_REALTIME && path != NULL) {
        char text[32] = {0};
        int fd = open(path, O_RDONLY | O_CLOEXEC);
        if (fd >= 0) {
            if (read(fd, text, sizeof text - 1) > 0) now->tv_sec += atoll(text);
            close(fd);
        }
    }
    return result;
}
