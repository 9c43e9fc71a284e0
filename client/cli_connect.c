#include "client/cli.h"

static int apply_flags(struct cli *cli, struct shoal_settings *settings, struct shoal_error *err)
{
    int rc = 0;

    if (cli->url) {
        rc = shoal_settings_set_url(settings, cli->url, err);
    }
    if (rc == 0 && cli->key) {
        rc = shoal_settings_set_key(settings, cli->key, err);
    }
    if (rc == 0 && cli->ca_file) {
        rc = shoal_settings_set_ca_file(settings, cli->ca_file, err);
    }
    return rc;
}

bool cli_connect(struct cli *cli)
{
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct shoal_settings *settings = shoal_settings_new();
    int rc;

    if (!settings) {
        (void)fputs("shoal: out of memory\n", stderr);
        return false;
    }
    shoal_settings_set_watch(settings, cli->watch, NULL);
    rc = apply_flags(cli, settings, &err);
    rc = rc < 0 ? rc : shoal_settings_load(settings, &err);
    rc = rc < 0 ? rc : shoal_client_new(settings, &cli->client, &err);
    shoal_settings_free(settings);
    if (rc < 0) {
        (void)cli_fail(cli, &err, "settings");
    }
    return rc == 0;
}
