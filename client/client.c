#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/error.h"
#include "client/http.h"

static void curl_start(void)
{
    (void)curl_global_init(CURL_GLOBAL_DEFAULT);
}

static int copy_text(char **slot, const char *prefix, const char *text)
{
    if (text && asprintf(slot, "%s%s", prefix, text) < 0) {
        *slot = NULL;
        return -ENOMEM;
    }
    return 0;
}

int shoal_client_new(const struct shoal_settings *settings,
                     struct shoal_client **ret_client,
                     struct shoal_error *err)
{
    /* libcurl wants to be started once per process; the only global of the library. */
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    const char *url = settings->url ? settings->url : CLIENT_URL_DEFAULT;
    struct shoal_client *client;
    int rc;

    (void)pthread_once(&once, curl_start);
    client_error_clear(err);
    client = calloc(1, sizeof(*client));
    if (!client) {
        return client_error_set(err, -ENOMEM, "out of memory");
    }
    client->connect_timeout_ms = settings->connect_timeout_ms;
    client->idle_timeout_s = settings->idle_timeout_s;
    client->watch = settings->watch;
    client->watch_arg = settings->watch_arg;
    rc = client_url_split(url, client->endpoints, &client->endpoint_count, err);
    client->curl = curl_easy_init();
    if (rc == 0 && (!client->curl || copy_text(&client->key_header, "X-API-Key: ", settings->key) ||
                    copy_text(&client->ca_file, "", settings->ca_file))) {
        rc = client_error_set(err, -ENOMEM, "out of memory");
    }
    if (rc < 0) {
        shoal_client_free(client);
        return rc;
    }
    *ret_client = client;
    return 0;
}

void shoal_client_free(struct shoal_client *client)
{
    if (!client) {
        return;
    }
    for (size_t i = 0; i < client->endpoint_count; i++) {
        free(client->endpoints[i]);
    }
    if (client->curl) {
        curl_easy_cleanup(client->curl);
    }
    if (client->key_header) {
        explicit_bzero(client->key_header, strlen(client->key_header));
    }
    free(client->key_header);
    free(client->ca_file);
    free(client);
}

size_t shoal_client_endpoint_count(const struct shoal_client *client)
{
    return client->endpoint_count;
}

const char *shoal_client_endpoint(const struct shoal_client *client, size_t index)
{
    return index < client->endpoint_count ? client->endpoints[index] : NULL;
}

const char *shoal_client_endpoint_in_use(const struct shoal_client *client)
{
    return client->endpoints[client->current];
}
