/* Manifests as clients send them: what passes the checks can be carried out. */
#include <assert.h>
#include <string.h>

#include "node/image/actions.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void walk(struct image_step *step)
{
    struct image_action action;
    char text[200];
    size_t i;
    int rc;

    image_step_describe(step, text, sizeof(text));
    assert(text[0] != '\0');
    for (i = 0; (rc = image_action_get(step, i, &action)) == 1; i++) {
        assert(action.is_write ? action.path && action.path[0] == '/' : action.argc > 0);
        assert(action.is_write || action.argv[action.argc] == NULL);
        image_action_release(&action);
    }
    assert(rc == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    json_t *json = json_loadb((const char *)data, size, JSON_REJECT_DUPLICATES, NULL);
    struct image_manifest manifest;
    struct shl_err err = {0};
    int rc = image_manifest_parse(json, &manifest, &err);

    if (rc < 0) {
        assert(err.code == rc && err.msg[0] != '\0');
    } else {
        struct node_kv_list env = {0};

        assert(strlen(manifest.hash) == IMAGE_HASH_SIZE - 1);
        assert(image_manifest_env(&manifest, manifest.step_count, &env) == 0);
        node_kv_release(&env);
        for (size_t i = 0; i < manifest.step_count; i++) {
            walk(&manifest.steps[i]);
        }
        image_manifest_release(&manifest);
    }
    json_decref(json);
    return 0;
}
