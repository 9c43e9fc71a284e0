#include "client/settings.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

#include <jansson.h>

#include "base/buf.h"
#include "base/cleanup.h"
#include "client/error.h"

static int no_memory(struct shoal_error *err)
{
    return client_error_set(err, -ENOMEM, "out of memory");
}

struct shoal_settings *shoal_settings_new(void)
{
    struct shoal_settings *settings = calloc(1, sizeof(*settings));

    if (settings) {
        settings->connect_timeout_ms = CLIENT_CONNECT_TIMEOUT_MS;
        settings->idle_timeout_s = CLIENT_IDLE_TIMEOUT_S;
    }
    return settings;
}

void shoal_settings_free(struct shoal_settings *settings)
{
    if (!settings) {
        return;
    }
    free(settings->url);
    if (settings->key) {
        explicit_bzero(settings->key, strlen(settings->key));
    }
    free(settings->key);
    free(settings->ca_file);
    free(settings);
}

static int replace(char **slot, const char *text, struct shoal_error *err)
{
    char *copy = strdup(text);

    if (!copy) {
        return no_memory(err);
    }
    free(*slot);
    *slot = copy;
    return 0;
}

/* One endpoint between @start and @end to a heap string with /api at its end. */
static int endpoint_parse(const char *start,
                          const char *end,
                          char **ret_url,
                          struct shoal_error *err)
{
    size_t scheme;
    size_t len;

    while (start < end && *start == ' ') {
        start++;
    }
    while (end > start && (end[-1] == ' ' || end[-1] == '/')) {
        end--;
    }
    len = (size_t)(end - start);
    scheme = strncasecmp(start, "http://", 7) == 0    ? 7
             : strncasecmp(start, "https://", 8) == 0 ? 8
                                                      : 0;
    if (scheme == 0 || len <= scheme) {
        return client_error_set(err, SHOAL_EINVALIDARG,
                                "\"%.*s\" is not a server address: write http://HOST:PORT or "
                                "https://HOST",
                                (int)SHL_MIN(len, (size_t)200), start);
    }
    for (const char *c = start; c < end; c++) {
        if ((unsigned char)*c <= ' ' || *c == 0x7f || *c == '?' || *c == '#' || *c == '@') {
            return client_error_set(err, SHOAL_EINVALIDARG,
                                    "the server address \"%.*s\" contains a character that does "
                                    "not belong there: write http://HOST:PORT",
                                    (int)SHL_MIN(len, (size_t)200), start);
        }
    }
    if (len - scheme > 4 && strncmp(end - 4, "/api", 4) == 0) {
        len -= 4;
    }
    return asprintf(ret_url, "%.*s/api", (int)len, start) < 0 ? no_memory(err) : 0;
}

int client_url_split(const char *list, char **endpoints, size_t *ret_count, struct shoal_error *err)
{
    size_t count = 0;
    int rc = 0;

    if (strlen(list) > CLIENT_URL_MAX_BYTES) {
        return client_error_set(err, SHOAL_ELIMIT,
                                "the list of server addresses is longer than %d bytes",
                                CLIENT_URL_MAX_BYTES);
    }
    for (const char *at = list; rc == 0;) {
        const char *end = strchrnul(at, ',');
        char *url = NULL;

        rc = count == CLIENT_ENDPOINTS_MAX
                 ? client_error_set(err, SHOAL_ELIMIT, "more than %d server addresses",
                                    CLIENT_ENDPOINTS_MAX)
                 : endpoint_parse(at, end, &url, err);
        if (rc == 0 && endpoints) {
            endpoints[count] = shl_steal_ptr(&url);
        }
        free(url);
        if (rc == 0) {
            count++;
        }
        if (!*end) {
            break;
        }
        at = end + 1;
    }
    for (size_t i = 0; rc < 0 && endpoints && i < count; i++) {
        free(shl_steal_ptr(&endpoints[i]));
    }
    if (rc == 0) {
        *ret_count = count;
    }
    return rc;
}

int shoal_settings_set_url(struct shoal_settings *settings,
                           const char *url,
                           struct shoal_error *err)
{
    size_t count;
    int rc = client_url_split(url, NULL, &count, err);

    return rc < 0 ? rc : replace(&settings->url, url, err);
}

int shoal_settings_set_key(struct shoal_settings *settings,
                           const char *key,
                           struct shoal_error *err)
{
    size_t len = strlen(key);

    /* It becomes a header line: nothing in it may end that line. */
    for (size_t i = 0; i < len; i++) {
        if ((unsigned char)key[i] <= ' ' || (unsigned char)key[i] >= 0x7f) {
            return client_error_set(err, SHOAL_EINVALIDARG,
                                    "the API key contains a blank or a character that is not "
                                    "printable ASCII: copy it again");
        }
    }
    if (len == 0 || len > CLIENT_KEY_MAX_BYTES) {
        return client_error_set(err, SHOAL_EINVALIDARG, "the API key is %s",
                                len == 0 ? "empty" : "too long");
    }
    return replace(&settings->key, key, err);
}

int shoal_settings_set_ca_file(struct shoal_settings *settings,
                               const char *path,
                               struct shoal_error *err)
{
    if (access(path, R_OK) < 0) {
        return client_error_set(err, -errno, "the certificate file %s cannot be read: %s", path,
                                strerrordesc_np(errno));
    }
    return replace(&settings->ca_file, path, err);
}

int shoal_settings_set_connect_timeout_ms(struct shoal_settings *settings, int timeout_ms)
{
    if (timeout_ms < 1 || timeout_ms > CLIENT_CONNECT_TIMEOUT_MAX) {
        return SHOAL_EINVALIDARG;
    }
    settings->connect_timeout_ms = timeout_ms;
    return 0;
}

int shoal_settings_set_idle_timeout_s(struct shoal_settings *settings, int timeout_s)
{
    if (timeout_s < 0 || timeout_s > CLIENT_IDLE_TIMEOUT_MAX_S) {
        return SHOAL_EINVALIDARG;
    }
    settings->idle_timeout_s = timeout_s;
    return 0;
}

void shoal_settings_set_watch(struct shoal_settings *settings, shoal_watch_cb watch, void *arg)
{
    settings->watch = watch;
    settings->watch_arg = arg;
}

/* First of the two that is set and not empty. */
static const char *env_of(const char *name, const char *other)
{
    const char *value = getenv(name);

    if ((!value || !*value) && other) {
        value = getenv(other);
    }
    return value && *value ? value : NULL;
}

static int load_env(struct shoal_settings *settings, struct shoal_error *err)
{
    const char *url = env_of("SHOAL_URL", "OPENCOMPUTER_API_URL");
    const char *key = env_of("SHOAL_API_KEY", "OPENCOMPUTER_API_KEY");
    const char *ca_file = env_of("SHOAL_CA_FILE", NULL);
    int rc = 0;

    if (url && !settings->url) {
        rc = shoal_settings_set_url(settings, url, err);
    }
    if (rc == 0 && key && !settings->key) {
        rc = shoal_settings_set_key(settings, key, err);
    }
    if (rc == 0 && ca_file && !settings->ca_file) {
        rc = shoal_settings_set_ca_file(settings, ca_file, err);
    }
    return rc;
}

/* Heap path of the configuration file, NULL when there is no home to look in. */
static char *config_path(void)
{
    const char *explicit_path = env_of("SHOAL_CONFIG", NULL);
    const char *config_home = env_of("XDG_CONFIG_HOME", NULL);
    const char *home = env_of("HOME", NULL);
    char *path = NULL;
    int rc = -1;

    if (explicit_path) {
        return strdup(explicit_path);
    }
    if (config_home) {
        rc = asprintf(&path, "%s/shoal/config.json", config_home);
    } else if (home) {
        rc = asprintf(&path, "%s/.config/shoal/config.json", home);
    }
    return rc < 0 ? NULL : path;
}

/* The file as an object. -ENOENT when there is none. @ret_private: nobody else reads it. */
static int config_read(const char *path,
                       json_t **ret_doc,
                       bool *ret_private,
                       struct shoal_error *err)
{
    SHL_CLEANUP_FD int fd = open(path, O_RDONLY | O_CLOEXEC);
    SHL_CLEANUP_FREE char *text = NULL;
    json_error_t json_err;
    struct stat st;
    json_t *doc;
    ssize_t got;

    if (fd < 0 || fstat(fd, &st) < 0) {
        return client_error_set(err, -errno, "the configuration file %s cannot be read: %s", path,
                                strerrordesc_np(errno));
    }
    text = malloc(CLIENT_CONFIG_MAX_BYTES);
    if (!text) {
        return no_memory(err);
    }
    got = S_ISREG(st.st_mode) ? read(fd, text, CLIENT_CONFIG_MAX_BYTES) : -1;
    if (got < 0 || got == CLIENT_CONFIG_MAX_BYTES) {
        return client_error_set(err, SHOAL_EINVALIDARG,
                                "the configuration file %s is not a readable file below 64 KiB",
                                path);
    }
    doc = json_loadb(text, (size_t)got, 0, &json_err);
    explicit_bzero(text, (size_t)got);
    if (!json_is_object(doc)) {
        json_decref(doc);
        return client_error_set(err, SHOAL_EINVALIDARG,
                                "the configuration file %s is not a JSON object (line %d: %s)",
                                path, doc ? 1 : json_err.line,
                                doc ? "the top level is something else" : json_err.text);
    }
    *ret_private =
        (st.st_mode & (S_IRWXG | S_IRWXO)) == 0 && (st.st_uid == geteuid() || st.st_uid == 0);
    *ret_doc = doc;
    return 0;
}

/* NULL when absent; an error when it is something else than text. */
static int config_text(const json_t *doc,
                       const char *path,
                       const char *key,
                       const char **ret_text,
                       struct shoal_error *err)
{
    const json_t *value = json_object_get(doc, key);

    if (value && !json_is_string(value)) {
        return client_error_set(err, SHOAL_EINVALIDARG, "\"%s\" in %s is not a string", key, path);
    }
    *ret_text = value ? json_string_value(value) : NULL;
    return 0;
}

static int config_apply(struct shoal_settings *settings,
                        const json_t *doc,
                        const char *path,
                        bool private,
                        struct shoal_error *err)
{
    const char *url = NULL;
    const char *key = NULL;
    const char *ca_file = NULL;
    int rc = config_text(doc, path, "url", &url, err);

    rc = rc < 0 ? rc : config_text(doc, path, "key", &key, err);
    rc = rc < 0 ? rc : config_text(doc, path, "ca_file", &ca_file, err);
    if (rc == 0 && url && !settings->url) {
        rc = shoal_settings_set_url(settings, url, err);
    }
    if (rc == 0 && key && !settings->key) {
        rc = private ? shoal_settings_set_key(settings, key, err)
                     : client_error_set(err, -EPERM,
                                        "%s holds an API key and others may read it: run "
                                        "chmod 600 %s",
                                        path, path);
    }
    if (rc == 0 && ca_file && !settings->ca_file) {
        rc = shoal_settings_set_ca_file(settings, ca_file, err);
    }
    return rc;
}

int shoal_settings_load(struct shoal_settings *settings, struct shoal_error *err)
{
    SHL_CLEANUP_FREE char *path = NULL;
    bool private = false;
    json_t *doc = NULL;
    int rc;

    client_error_clear(err);
    rc = load_env(settings, err);
    path = config_path();
    if (rc < 0 || !path) {
        return rc;
    }
    rc = config_read(path, &doc, &private, err);
    if (rc == -ENOENT && !env_of("SHOAL_CONFIG", NULL)) {
        client_error_clear(err);
        return 0;
    }
    if (rc == 0) {
        rc = config_apply(settings, doc, path, private, err);
    }
    json_decref(doc);
    return rc;
}
