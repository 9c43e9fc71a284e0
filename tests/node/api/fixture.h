/* A whole API server on fakes, and requests to it. */
#ifndef SHL_TESTS_NODE_API_FIXTURE_H
#define SHL_TESTS_NODE_API_FIXTURE_H

#include <jansson.h>

#include "node/api/keys.h"
#include "node/api/server.h"
#include "node/secret/policy.h"
#include "tests/node/api/fake.h"
#include "tests/node/http/client.h"

#define FIXTURE_GUESTS 16

struct fixture {
    uv_loop_t loop;
    struct node_store *store;
    struct node_manager *manager;
    struct node_server *server;
    char key[NODE_KEY_SIZE];
    char other_key[NODE_KEY_SIZE]; /* of another organisation, no admin */
    char id[NODE_SANDBOX_ID_SIZE]; /* of a running sandbox of the first one */
    char token[2048];              /* of that sandbox */
    uint16_t port;
    bool is_closed;
    struct {
        uint32_t guest; /* fake_address */
        struct node_egress_policy policy;
        struct node_egress_facts facts;
        unsigned sets;
    } guests[FIXTURE_GUESTS]; /* what the gateway was told */
    node_egress_ask ask;      /* as the gateway asks */
    void *ask_arg;
    struct node_egress_figures figures; /* the last answer */
    bool figures_known;
    unsigned figures_count;
};

/* NULL: it was told nothing. */
const struct node_egress_facts *fixture_facts(const char *sandbox_id);
const struct node_egress_policy *fixture_policy(const char *sandbox_id);

extern struct fixture *fix;

int fixture_setup(void **state);
int fixture_teardown(void **state);

struct node_sandbox *fixture_sandbox(void);
/* What the fake manager does from now on. */
struct fake_manager_knobs *knobs(void);

/* @target is "GET /api/x"; a key header is added. @body may be NULL. Afterwards the reply
 * is in *ret; the parsed JSON body is returned (NULL when there is none). */
json_t *api(const char *target, const char *body, struct reply *ret);
json_t *api_as(const char *credentials, const char *target, const char *body, struct reply *ret);

/* Heap copy of @format with the sandbox id for %s. */
char *expand(const char *format);

/* The same with %s in @format standing for the sandbox id, checking the status. */
json_t *call(int status, const char *format, const char *body);
/* A call whose reply must be an error envelope; the text must contain @part. */
void call_fails(int status, const char *part, const char *format, const char *body);
void check_envelope(const struct reply *reply, int status);

const char *text_of(json_t *json, const char *name); /* "" when not there */
/* Creates one more sandbox and returns its id in @ret. */
void create_sandbox(const char *body, char ret[NODE_SANDBOX_ID_SIZE]);

/* The running sandbox; asserted. */
void hibernate(void);
/* How often it was woken. */
unsigned wakes(void);

#endif /* SHL_TESTS_NODE_API_FIXTURE_H */
