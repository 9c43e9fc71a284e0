/* Agent sessions: requests. client/agent_events.c reads what they print. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "client/doc.h"
#include "client/error.h"

#define PATH_MAX_SIZE (2 * CLIENT_ID_MAX_BYTES + 64)

struct shoal_agent_config {
    json_t *json;
};

static const struct client_field session_fields[] = {{"sessionID", CLIENT_TEXT, true}};

static const struct client_kind session_kind = {
    .noun = "agent session",
    .fields = session_fields,
    .field_count = SHL_ARRAY_SIZE(session_fields),
};

struct shoal_agent_config *shoal_agent_config_new(void)
{
    struct shoal_agent_config *config = calloc(1, sizeof(*config));

    if (config) {
        config->json = json_object();
    }
    if (config && !config->json) {
        free(config);
        return NULL;
    }
    return config;
}

void shoal_agent_config_free(struct shoal_agent_config *config)
{
    if (config) {
        json_decref(config->json);
        free(config);
    }
}

int shoal_agent_config_set_text(struct shoal_agent_config *config,
                                const char *field,
                                const char *text)
{
    return client_json_text(config->json, field, text);
}

int shoal_agent_config_set_max_turns(struct shoal_agent_config *config, int max_turns)
{
    return client_json_int(config->json, "maxTurns", max_turns);
}

int shoal_agent_config_add_tool(struct shoal_agent_config *config, const char *tool)
{
    json_t *tools = json_object_get(config->json, "allowedTools");

    if (!tools) {
        tools = json_array();
        if (json_object_set_new(config->json, "allowedTools", tools) < 0) {
            return -ENOMEM;
        }
    }
    return json_array_append_new(tools, json_string(tool)) == 0 ? 0 : SHOAL_EINVALIDARG;
}

int shoal_agent_config_set_servers(struct shoal_agent_config *config,
                                   const char *text,
                                   size_t len,
                                   struct shoal_error *err)
{
    json_error_t why;
    json_t *servers = json_loadb(text, len, 0, &why);
    json_t *inner = json_object_get(servers, "mcpServers"); /* as in an .mcp.json */

    client_error_clear(err);
    if (!json_is_object(servers)) {
        json_decref(servers);
        return client_error_set(err, SHOAL_EINVALIDARG,
                                "MCP servers are a JSON object of servers by their names: line "
                                "%d: %.80s",
                                servers ? 1 : why.line, servers ? "no object" : why.text);
    }
    if (inner) {
        json_incref(inner);
        json_decref(servers);
        servers = inner;
    }
    return json_object_set_new(config->json, "mcpServers", servers) == 0
               ? 0
               : client_error_set(err, -ENOMEM, "no memory for the request");
}

/* A call on @session, or on all of @id when it is NULL. */
static int make_path(const char *id,
                     const char *session,
                     const char *call,
                     char path[PATH_MAX_SIZE],
                     struct shoal_error *err)
{
    int rc;

    client_error_clear(err);
    rc = client_id_check(id, "sandbox", err);
    if (rc == 0 && session) {
        rc = client_id_check(session, "session", err);
    }
    if (rc == 0 && session) {
        (void)snprintf(path, PATH_MAX_SIZE, "/sandboxes/%s/agent/%s/%s", id, session, call);
    } else if (rc == 0) {
        (void)snprintf(path, PATH_MAX_SIZE, "/sandboxes/%s/agent", id);
    }
    return rc;
}

int shoal_agent_start(struct shoal_client *client,
                      const char *id,
                      const struct shoal_agent_config *config,
                      char *ret_session,
                      size_t size,
                      struct shoal_error *err)
{
    SHL_CLEANUP_FREE char *body = json_dumps(config->json, JSON_COMPACT);
    struct client_doc *doc = NULL;
    char path[PATH_MAX_SIZE];
    int rc = make_path(id, NULL, NULL, path, err);

    if (rc == 0 && !body) {
        rc = client_error_set(err, -ENOMEM, "no memory for the request");
    }
    if (rc == 0) {
        rc = client_fetch(client,
                          &(struct client_request){.method = "POST",
                                                   .path = path,
                                                   .json = body,
                                                   .json_bytes = strlen(body)},
                          &session_kind, &doc, err);
    }
    if (rc == 0) {
        (void)snprintf(ret_session, size, "%s", client_doc_text(doc, "sessionID"));
        client_doc_free(doc);
    }
    return rc;
}

/* @body may be NULL. */
static int call(struct shoal_client *client,
                const char *id,
                const char *session,
                const char *what,
                const char *body,
                struct shoal_error *err)
{
    SHL_CLEANUP(client_answer_release) struct client_answer answer = {.status = 0};
    char path[PATH_MAX_SIZE];
    int rc = make_path(id, session, what, path, err);

    body = body ? body : "{}";
    return rc < 0 ? rc
                  : client_call(client,
                                &(struct client_request){.method = "POST",
                                                         .path = path,
                                                         .json = body,
                                                         .json_bytes = strlen(body)},
                                &answer, err);
}

int shoal_agent_prompt(struct shoal_client *client,
                       const char *id,
                       const char *session,
                       const char *text,
                       struct shoal_error *err)
{
    SHL_CLEANUP_FREE char *body = NULL;
    json_t *json = json_pack("{s:s}", "text", text);

    body = json ? json_dumps(json, JSON_COMPACT) : NULL;
    json_decref(json);
    if (!body) {
        client_error_clear(err);
        return client_error_set(err, SHOAL_EINVALIDARG, "the prompt is not UTF-8 text");
    }
    return call(client, id, session, "prompt", body, err);
}

int shoal_agent_interrupt(struct shoal_client *client,
                          const char *id,
                          const char *session,
                          struct shoal_error *err)
{
    return call(client, id, session, "interrupt", NULL, err);
}

int shoal_agent_kill(struct shoal_client *client,
                     const char *id,
                     const char *session,
                     int signal,
                     struct shoal_error *err)
{
    char body[64];

    (void)snprintf(body, sizeof(body), "{\"signal\":%d}", signal);
    return call(client, id, session, "kill", body, err);
}
