/* What a client is made from. Internal; the contract of each setter is in shoal.h. */
#ifndef SHL_CLIENT_SETTINGS_H
#define SHL_CLIENT_SETTINGS_H

#include "client/shoal.h"

#define CLIENT_ENDPOINTS_MAX       16
#define CLIENT_URL_MAX_BYTES       2048
#define CLIENT_KEY_MAX_BYTES       4096
#define CLIENT_CONFIG_MAX_BYTES    (64 * 1024)
#define CLIENT_URL_DEFAULT         "http://127.0.0.1:8080"
#define CLIENT_CONNECT_TIMEOUT_MS  5000
#define CLIENT_CONNECT_TIMEOUT_MAX 600000
#define CLIENT_IDLE_TIMEOUT_S      300
#define CLIENT_IDLE_TIMEOUT_MAX_S  (24 * 3600)

struct shoal_settings {
    char *url;     /* as given, NULL not set; heap */
    char *key;     /* NULL not set */
    char *ca_file; /* NULL: the system's */
    int connect_timeout_ms;
    int idle_timeout_s;
    shoal_watch_cb watch; /* may be NULL */
    void *watch_arg;
};

/* Split and check a list of endpoints. Writes up to CLIENT_ENDPOINTS_MAX heap strings,
 * each ending in /api, to @endpoints (NULL: only check). */
int client_url_split(const char *list,
                     char **endpoints,
                     size_t *ret_count,
                     struct shoal_error *err);

#endif /* SHL_CLIENT_SETTINGS_H */
