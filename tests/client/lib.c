#include "tests/client/lib.h"

struct shoal_client *client_of(const char *url, int idle_timeout_s)
{
    struct shoal_settings *settings = shoal_settings_new();
    struct shoal_client *client = NULL;

    assert_int_equal(shoal_settings_set_url(settings, url, NULL), 0);
    assert_int_equal(shoal_settings_set_key(settings, "key-1", NULL), 0);
    assert_int_equal(shoal_settings_set_idle_timeout_s(settings, idle_timeout_s), 0);
    assert_int_equal(shoal_client_new(settings, &client, NULL), 0);
    shoal_settings_free(settings);
    return client;
}

struct fixture begin(const struct mock_rule *rules, size_t count)
{
    struct fixture f = {.mock = mock_start(rules, count), .err = SHOAL_ERROR_INIT};

    f.client = client_of(mock_url(f.mock), 30);
    return f;
}

void end(struct fixture *f)
{
    shoal_client_free(f->client);
    mock_stop(f->mock);
}
