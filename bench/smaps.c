#include "bench/smaps.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#define ANONYMOUS_GUEST_BYTES (64ull << 20)
#define LINE_BYTES            1024

static bool is_guest(uint64_t bytes, unsigned long long inode, const ino_t *inodes, unsigned count)
{
    unsigned i;

    for (i = 0; i < count; i++) {
        if (inode == inodes[i]) {
            return true;
        }
    }
    return inode == 0 && bytes >= ANONYMOUS_GUEST_BYTES;
}

static bool parse(FILE *file, const ino_t *inodes, unsigned count, struct bench_smaps *ret)
{
    char line[LINE_BYTES];
    bool guest = false, any = false;

    while (fgets(line, sizeof(line), file)) {
        unsigned long long begin, end, inode, kib;
        char name[64];

        /* begin-end perms offset dev inode path; then "Name: N kB" lines about it */
        if (sscanf(line, "%llx-%llx %*s %*x %*x:%*x %llu", &begin, &end, &inode) == 3) {
            guest = is_guest(end - begin, inode, inodes, count);
            ret->guest_bytes += guest ? end - begin : 0;
            any = true;
        } else if (sscanf(line, "%63[A-Za-z_]: %llu kB", name, &kib) == 2) {
            bool is_private =
                strcmp(name, "Private_Clean") == 0 || strcmp(name, "Private_Dirty") == 0;

            ret->guest_private_bytes += guest && is_private ? kib << 10 : 0;
            ret->own_private_bytes += !guest && is_private ? kib << 10 : 0;
            ret->guest_anon_bytes += guest && strcmp(name, "Anonymous") == 0 ? kib << 10 : 0;
        }
    }
    return any;
}

bool bench_smaps_read(pid_t pid,
                      const char *const *files,
                      unsigned file_count,
                      struct bench_smaps *ret)
{
    ino_t inodes[BENCH_SMAPS_FILES_MAX];
    char path[64];
    struct stat st;
    FILE *file;
    unsigned i;
    bool done;

    memset(ret, 0, sizeof(*ret));
    for (i = 0; i < file_count && i < BENCH_SMAPS_FILES_MAX; i++) {
        if (stat(files[i], &st) < 0) {
            perror(files[i]);
            return false;
        }
        inodes[i] = st.st_ino;
    }
    (void)snprintf(path, sizeof(path), "/proc/%d/smaps", (int)pid);
    file = fopen(path, "r");
    if (!file) {
        perror(path);
        return false;
    }
    done = parse(file, inodes, i, ret);
    (void)fclose(file);
    return done;
}
