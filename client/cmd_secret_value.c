/* Where the value of a secret comes from, and where it does not stay: the memory is locked, is in
 * no core dump, and is wiped; other programs of the user cannot look into this one from then on. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <termios.h>
#include <unistd.h>

#include "client/cli.h"

#define ROOM_BYTES (64u * 1024) /* of any value; the server says which ones it takes */

struct cli_secret_value {
    size_t len;
    char text[];
};

static struct termios usual;
static volatile sig_atomic_t is_silent;

static void restore(void)
{
    if (is_silent) {
        is_silent = 0;
        (void)tcsetattr(STDIN_FILENO, TCSAFLUSH, &usual); /* the rest of a paste is no command */
    }
}

/* Give the terminal back, then do what the signal does. */
static void on_fatal(int number)
{
    restore();
    (void)signal(number, SIG_DFL);
    (void)raise(number);
}

static void on_interrupt(int number)
{
    (void)number;
    restore();
    (void)!write(STDERR_FILENO, "\n", 1);
    _exit(CLI_INTERRUPTED);
}

/* Keys come one by one: a terminal that collects lines cuts them at 4095 bytes. */
static bool silence(void)
{
    static const int fatal[] = {SIGTERM, SIGHUP, SIGQUIT, SIGSEGV, SIGABRT, SIGBUS};
    struct sigaction action = {.sa_handler = on_fatal};
    struct termios silent;

    if (tcgetattr(STDIN_FILENO, &usual) < 0) {
        return false;
    }
    for (size_t i = 0; i < SHL_ARRAY_SIZE(fatal); i++) {
        (void)sigaction(fatal[i], &action, NULL);
    }
    action.sa_handler = on_interrupt;
    (void)sigaction(SIGINT, &action, NULL);
    (void)signal(SIGTSTP, SIG_IGN); /* a shell in between would have no echo */
    silent = usual;
    silent.c_lflag &= ~(tcflag_t)(ECHO | ECHONL | ICANON);
    silent.c_cc[VMIN] = 1;
    silent.c_cc[VTIME] = 0;
    is_silent = 1;
    if (tcsetattr(STDIN_FILENO, TCSAFLUSH, &silent) < 0) {
        is_silent = 0;
        return false;
    }
    return true;
}

static size_t without_last_character(const char *text, size_t len)
{
    while (len > 0 && ((unsigned char)text[len - 1] & 0xc0) == 0x80) {
        len--;
    }
    return len > 0 ? len - 1 : 0;
}

/* A line as it is typed. 0, -EIO, SHOAL_ELIMIT. */
static int read_line(struct cli_secret_value *value)
{
    for (;;) {
        char c;
        ssize_t n = read(STDIN_FILENO, &c, 1);

        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            return -EIO;
        }
        if (n == 0 || c == '\n' || c == '\r' || c == 0x04) {
            return 0;
        }
        if (c == 0x7f || c == '\b') {
            value->len = without_last_character(value->text, value->len);
        } else if (c == 0x15) { /* Ctrl-U */
            value->len = 0;
        } else if (value->len == ROOM_BYTES) {
            return SHOAL_ELIMIT;
        } else {
            value->text[value->len++] = c;
        }
    }
}

static int prompt(struct cli_secret_value *value, const char *name)
{
    int rc;

    (void)fprintf(stderr, "Value of %.80s (it is not shown): ", name);
    (void)fflush(stderr);
    rc = silence() ? read_line(value) : -ENOTTY;
    restore();
    (void)fputc('\n', stderr);
    return rc;
}

static int read_all(int fd, struct cli_secret_value *value)
{
    for (;;) {
        size_t room = ROOM_BYTES + 1 - value->len;
        ssize_t n = room > 0 ? read(fd, value->text + value->len, room) : 0;

        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            return n < 0 ? -errno : room == 0 ? SHOAL_ELIMIT : 0;
        }
        value->len += (size_t)n;
    }
}

static int read_file(const char *path, struct cli_secret_value *value)
{
    int fd = strcmp(path, "-") == 0 ? STDIN_FILENO : open(path, O_RDONLY | O_CLOEXEC);
    int rc;

    if (fd < 0) {
        return -errno;
    }
    rc = read_all(fd, value);
    if (fd != STDIN_FILENO) {
        (void)close(fd);
    }
    return rc;
}

static struct cli_secret_value *value_new(void)
{
    const struct rlimit none = {0, 0};
    size_t size = sizeof(struct cli_secret_value) + ROOM_BYTES + 1;
    struct cli_secret_value *value;

    (void)setrlimit(RLIMIT_CORE, &none);
    (void)prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
    value = calloc(1, size);
    if (value) {
        (void)mlock(value, size); /* where that is allowed */
    }
    return value;
}

/* CLI_GO when it can be a value. */
static int check(struct cli *cli, struct cli_secret_value *value, bool exact)
{
    if (!exact && value->len > 0 && value->text[value->len - 1] == '\n') {
        value->len--;
        value->len -= value->len > 0 && value->text[value->len - 1] == '\r';
    }
    if (value->len == 0) {
        return cli_usage(cli, "%s", "the value is empty");
    }
    if (memchr(value->text, '\0', value->len)) {
        return cli_usage(cli, "%s", "the value has zero bytes: it must be text");
    }
    return CLI_GO;
}

struct cli_secret_value *cli_secret_value_read(struct cli *cli,
                                               const char *name,
                                               const char *path,
                                               bool exact)
{
    bool asks = !path && isatty(STDIN_FILENO);
    struct cli_secret_value *value = value_new();
    int rc = !value ? -ENOMEM : asks ? prompt(value, name) : read_file(path ? path : "-", value);

    if (rc == SHOAL_ELIMIT) {
        rc = cli_usage(cli, "the value has more than %u bytes", ROOM_BYTES);
    } else if (rc < 0) {
        rc = cli_usage(cli, "cannot read the value: %s%s%s", path ? path : "", path ? ": " : "",
                       strerrordesc_np(-rc));
    } else {
        rc = check(cli, value, exact || asks);
    }
    if (rc != CLI_GO) {
        cli_secret_value_free(value);
        return NULL;
    }
    return value;
}

const char *cli_secret_value_text(const struct cli_secret_value *value, size_t *ret_bytes)
{
    *ret_bytes = value->len;
    return value->text;
}

void cli_secret_value_free(struct cli_secret_value *value)
{
    if (value) {
        explicit_bzero(value, sizeof(*value) + ROOM_BYTES + 1);
        free(value);
    }
}
