/* What every typed result is made of: the server's JSON, checked once when it arrives.
 *
 * Each public type (struct shoal_sandbox, struct shoal_exec_session, ...) is a name for
 * a client_doc whose fields passed the table of its kind, so that accessors need no
 * error path and --json can print what the server said. Lists hold one client_doc per
 * entry; entries borrow the list's JSON.
 */
#ifndef SHL_CLIENT_DOC_H
#define SHL_CLIENT_DOC_H

#include <jansson.h>

#include "base/attr.h"
#include "client/http.h"
#include "client/shoal.h"

struct client_field {
    const char *name;
    enum {
        CLIENT_TEXT,
        CLIENT_INT,
        CLIENT_BOOL,
        CLIENT_OBJECT,
        CLIENT_ANY
    } type;
    bool required; /* else absent and null are fine */
};

struct client_kind {
    const char *noun; /* "sandbox", for error sentences */
    const struct client_field *fields;
    size_t field_count;
};

struct client_doc {
    json_t *json; /* of a list: the array */
    char *text;   /* indented, made on demand */
    struct client_doc *items;
    size_t count;
};

/* One JSON object, checked against @kind. SHOAL_EPROTO says what is wrong with it. */
SHL_MUST_CHECK int client_doc_parse(const struct client_answer *answer,
                                    const struct client_kind *kind,
                                    struct client_doc **ret_doc,
                                    struct shoal_error *err);
/* A JSON array of them, or an object that has it under @member (may be NULL). */
SHL_MUST_CHECK int client_doc_parse_list(const struct client_answer *answer,
                                         const struct client_kind *kind,
                                         const char *member,
                                         struct client_doc **ret_doc,
                                         struct shoal_error *err);
void client_doc_free(struct client_doc *doc);

/* Absent gives NULL, -1 or false. */
const char *client_doc_text(const struct client_doc *doc, const char *field);
int64_t client_doc_int(const struct client_doc *doc, const char *field);
bool client_doc_bool(const struct client_doc *doc, const char *field);
const char *client_doc_json(struct client_doc *doc);
struct client_doc *client_doc_at(const struct client_doc *doc, size_t index);

/* What a request sets, as its body. */
struct shoal_create {
    json_t *json;
};

struct shoal_command {
    json_t *json;
};

/* Of client/sandbox.c. */
extern const struct client_kind client_sandbox_kind;

/* A public type and its client_doc are the same object under two names. */
#define CLIENT_DOC(object)       ((struct client_doc *)(object))
#define CLIENT_DOC_CONST(object) ((const struct client_doc *)(object))

/* Perform @request and parse the answer as one object or as a list. */
SHL_MUST_CHECK int client_fetch(struct shoal_client *client,
                                const struct client_request *request,
                                const struct client_kind *kind,
                                struct client_doc **ret_doc,
                                struct shoal_error *err);
SHL_MUST_CHECK int client_fetch_list(struct shoal_client *client,
                                     const struct client_request *request,
                                     const struct client_kind *kind,
                                     const char *member,
                                     struct client_doc **ret_doc,
                                     struct shoal_error *err);

/* object[group][key] = value, making the group; 0, -ENOMEM or SHOAL_EINVALIDARG. */
SHL_MUST_CHECK int client_json_put(json_t *object,
                                   const char *group,
                                   const char *key,
                                   const char *value);
/* object[key] = value. */
SHL_MUST_CHECK int client_json_text(json_t *object, const char *key, const char *value);
SHL_MUST_CHECK int client_json_int(json_t *object, const char *key, int64_t value);

#endif /* SHL_CLIENT_DOC_H */
