/* libshoal: create and use Shoal sandboxes over the public HTTP API.
 *
 * What: a client holds a list of endpoints (nodes), a key and one connection. A call
 * goes to the endpoint that answered last; when that one cannot be reached before the
 * request was sent, or when the call may be repeated without harm, the next one is
 * tried. Creates and forks carry an Idempotency-Key, so they may be repeated: all endpoints
 * must belong to one cluster.
 *
 * Ownership: every opaque struct is made by a _new or a call that returns it in a
 * ret_ parameter, belongs to the caller and ends with its _free (NULL is fine).
 * Strings handed in are copied. Strings handed out live as long as the object they
 * came from. Lists own their entries.
 *
 * Threads: a client and everything else here is used by one thread at a time;
 * different clients are independent. Calls block; shoal_settings_set_watch is how a
 * program stays responsive.
 *
 * Units are in the names: _s seconds, _ms milliseconds, _mb mebibytes, _bytes.
 *
 * Errors: calls return 0 (or more) on success and a negative code otherwise, either
 * -errno or one of enum shoal_code. Where a struct shoal_error is the last parameter
 * it gets a sentence, the HTTP status and the request id; it may be NULL. On failure
 * ret_ parameters are not written.
 */
#ifndef SHL_CLIENT_SHOAL_H
#define SHL_CLIENT_SHOAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#ifndef SHL_API
#define SHL_API __attribute__((visibility("default")))
#endif

/* Same numbers as base/err.h of the Shoal tree; they do not change. */
enum shoal_code {
    SHOAL_EPROTO = -10001,       /* the server sent something that is not valid */
    SHOAL_ELIMIT = -10002,       /* a size or count is over its limit (413) */
    SHOAL_ENOTFOUND = -10003,    /* no such sandbox, template, file, session (404) */
    SHOAL_ECONFLICT = -10004,    /* 409 */
    SHOAL_EGONE = -10006,        /* the sandbox has ended (410) */
    SHOAL_EAUTH = -10009,        /* key missing or not valid (401) */
    SHOAL_EFORBIDDEN = -10010,   /* 403 */
    SHOAL_EUNAVAILABLE = -10011, /* no capacity or node lost, try again (502, 503, 504) */
    SHOAL_EQUOTA = -10014,       /* too many sandboxes at once, or plan limit (402, 429) */
    SHOAL_EINVALIDARG = -10016,  /* an argument is not valid (400) */
    SHOAL_EMETHOD = -10017,      /* the server does not know this call (405) */
};

/* Caller-owned: struct shoal_error err = SHOAL_ERROR_INIT; */
struct shoal_error {
    size_t size;         /* sizeof(struct shoal_error), so that it can grow */
    int code;            /* negative, 0 when nothing failed */
    int http_status;     /* 0 when no answer arrived */
    char request_id[72]; /* of the server's answer, "" without one */
    char message[768];   /* one sentence, control characters replaced */
};
#define SHOAL_ERROR_INIT                       \
    {                                          \
        sizeof(struct shoal_error), 0, 0, {0}, \
        {                                      \
            0                                  \
        }                                      \
    }

/* "ENOTFOUND", "ECONNREFUSED"; static storage. */
SHL_API const char *shoal_error_name(int code);

SHL_API const char *shoal_version(void);

/* ---- settings ------------------------------------------------------------------- */

struct shoal_settings;

/* Called about once a second while a call waits and between polls; a value other than
 * 0 ends the call with -ECANCELED. */
typedef int (*shoal_watch_cb)(void *arg);

/* NULL without memory. Holds defaults only: no environment and no file is read. */
SHL_API struct shoal_settings *shoal_settings_new(void);
SHL_API void shoal_settings_free(struct shoal_settings *settings);

/* Fill what is not set yet from SHOAL_URL or OPENCOMPUTER_API_URL, SHOAL_API_KEY or
 * OPENCOMPUTER_API_KEY, SHOAL_CA_FILE, then from the configuration file (SHOAL_CONFIG,
 * else $XDG_CONFIG_HOME/shoal/config.json, else ~/.config/shoal/config.json, an object
 * with "url", "key", "ca_file"). A file that holds a needed key and that others may
 * read is refused with -EPERM. */
SHL_API int shoal_settings_load(struct shoal_settings *settings, struct shoal_error *err);

/* Comma separated endpoints, each http:// or https://, with or without /api. */
SHL_API int shoal_settings_set_url(struct shoal_settings *settings,
                                   const char *url,
                                   struct shoal_error *err);
SHL_API int shoal_settings_set_key(struct shoal_settings *settings,
                                   const char *key,
                                   struct shoal_error *err);
/* File of trusted certificates (PEM) instead of the system's. */
SHL_API int shoal_settings_set_ca_file(struct shoal_settings *settings,
                                       const char *path,
                                       struct shoal_error *err);
/* Per endpoint; 1..600000, default 5000. */
SHL_API int shoal_settings_set_connect_timeout_ms(struct shoal_settings *settings, int timeout_ms);
/* Longest silence of a server during a call; 0 waits for ever, default 300. */
SHL_API int shoal_settings_set_idle_timeout_s(struct shoal_settings *settings, int timeout_s);
SHL_API void shoal_settings_set_watch(struct shoal_settings *settings,
                                      shoal_watch_cb watch,
                                      void *arg);

/* ---- client --------------------------------------------------------------------- */

struct shoal_client;

/* Copies @settings; http://127.0.0.1:8080 when they name no endpoint. No connection is
 * made yet. */
SHL_API int shoal_client_new(const struct shoal_settings *settings,
                             struct shoal_client **ret_client,
                             struct shoal_error *err);
SHL_API void shoal_client_free(struct shoal_client *client);

SHL_API size_t shoal_client_endpoint_count(const struct shoal_client *client);
/* Base address with /api; NULL beyond the last. */
SHL_API const char *shoal_client_endpoint(const struct shoal_client *client, size_t index);
/* The endpoint that answered last (the first one before any call). */
SHL_API const char *shoal_client_endpoint_in_use(const struct shoal_client *client);

/* ---- sandboxes ------------------------------------------------------------------ */

struct shoal_create;       /* what a new sandbox should be */
struct shoal_sandbox;      /* what the server said about one sandbox */
struct shoal_sandbox_list; /* newest first */

/* Everything not set is left to the server. NULL without memory. */
SHL_API struct shoal_create *shoal_create_new(void);
SHL_API void shoal_create_free(struct shoal_create *create);
/* 0, -ENOMEM, or SHOAL_EINVALIDARG for text that is not UTF-8 or an empty key. */
SHL_API int shoal_create_set_template(struct shoal_create *create, const char *name);
SHL_API int shoal_create_set_cpus(struct shoal_create *create, int cpus);
SHL_API int shoal_create_set_memory_mb(struct shoal_create *create, int memory_mb);
SHL_API int shoal_create_set_disk_mb(struct shoal_create *create, int disk_mb);
/* Idle time until the sandbox is hibernated; 0 never. */
SHL_API int shoal_create_set_timeout_s(struct shoal_create *create, int timeout_s);
/* When its node is lost while it runs: "error", or "restore", then it goes on on another node
 * from what was saved last, every @autosave_s seconds (the server's default: 60). */
SHL_API int shoal_create_set_on_node_loss(struct shoal_create *create, const char *what);
SHL_API int shoal_create_set_autosave_s(struct shoal_create *create, int autosave_s);
/* The name of a secret store: its secrets are in the environment as sealed tokens. */
SHL_API int shoal_create_set_secret_store(struct shoal_create *create, const char *name);
SHL_API int shoal_create_add_env(struct shoal_create *create, const char *key, const char *value);
SHL_API int shoal_create_add_metadata(struct shoal_create *create,
                                      const char *key,
                                      const char *value);

/* @create may be NULL: all defaults. The sandbox is ready for commands on return. */
SHL_API int shoal_sandbox_create(struct shoal_client *client,
                                 const struct shoal_create *create,
                                 struct shoal_sandbox **ret_sandbox,
                                 struct shoal_error *err);
SHL_API int shoal_sandbox_get(struct shoal_client *client,
                              const char *id,
                              struct shoal_sandbox **ret_sandbox,
                              struct shoal_error *err);
SHL_API int shoal_sandbox_list(struct shoal_client *client,
                               struct shoal_sandbox_list **ret_list,
                               struct shoal_error *err);
/* Also 0 when it has ended already. */
SHL_API int shoal_sandbox_kill(struct shoal_client *client,
                               const char *id,
                               struct shoal_error *err);
SHL_API int shoal_sandbox_set_timeout_s(struct shoal_client *client,
                                        const char *id,
                                        int timeout_s,
                                        struct shoal_error *err);

/* Save memory and disk and give up everything else; 0 also when it is hibernated.
 * @ret_saved_bytes may be NULL. Any command or file call wakes it again. */
SHL_API int shoal_sandbox_hibernate(struct shoal_client *client,
                                    const char *id,
                                    int64_t *ret_saved_bytes,
                                    struct shoal_error *err);
/* A running one goes on on @node (a name), with its processes; this waits for it. */
SHL_API int shoal_sandbox_migrate(struct shoal_client *client,
                                  const char *id,
                                  const char *node,
                                  struct shoal_error *err);
/* One whose node is lost runs again, elsewhere, from the newest that was kept of it. */
SHL_API int shoal_sandbox_recover(struct shoal_client *client,
                                  const char *id,
                                  struct shoal_sandbox **ret_sandbox,
                                  struct shoal_error *err);
/* Ready for commands on return; 0 also when it runs. @timeout_s below 0 keeps the idle
 * time. @ret_sandbox may be NULL. */
SHL_API int shoal_sandbox_wake(struct shoal_client *client,
                               const char *id,
                               int timeout_s,
                               struct shoal_sandbox **ret_sandbox,
                               struct shoal_error *err);
/* Boot again from the disk. @hard does not ask the guest to shut down. */
SHL_API int shoal_sandbox_reboot(struct shoal_client *client,
                                 const char *id,
                                 bool hard,
                                 struct shoal_error *err);

SHL_API void shoal_sandbox_free(struct shoal_sandbox *sandbox);
SHL_API const char *shoal_sandbox_id(const struct shoal_sandbox *sandbox);
SHL_API const char *shoal_sandbox_status(const struct shoal_sandbox *sandbox);
/* NULL or -1 when the server did not say. Times are RFC 3339 text. */
SHL_API const char *shoal_sandbox_template(const struct shoal_sandbox *sandbox);
SHL_API const char *shoal_sandbox_reason(const struct shoal_sandbox *sandbox);
SHL_API const char *shoal_sandbox_started_at(const struct shoal_sandbox *sandbox);
SHL_API const char *shoal_sandbox_end_at(const struct shoal_sandbox *sandbox);
SHL_API const char *shoal_sandbox_worker(const struct shoal_sandbox *sandbox);
SHL_API int64_t shoal_sandbox_cpus(const struct shoal_sandbox *sandbox);
SHL_API int64_t shoal_sandbox_memory_mb(const struct shoal_sandbox *sandbox);
SHL_API int64_t shoal_sandbox_disk_mb(const struct shoal_sandbox *sandbox);
/* NULL when there is no such entry. */
SHL_API const char *shoal_sandbox_metadata(const struct shoal_sandbox *sandbox, const char *key);
/* The checkpoint it was forked from. */
SHL_API const char *shoal_sandbox_checkpoint(const struct shoal_sandbox *sandbox);
/* Its last wake had to boot: files were kept, processes lost. */
SHL_API bool shoal_sandbox_cold_woken(const struct shoal_sandbox *sandbox);
/* The server's object, indented; NULL without memory. */
/* Of shoal_sandbox_recover: the id of what it came back from, and how old that is (-1 else). */
SHL_API const char *shoal_sandbox_recovered_from(const struct shoal_sandbox *sandbox);
SHL_API int64_t shoal_sandbox_recovered_age_s(const struct shoal_sandbox *sandbox);
SHL_API const char *shoal_sandbox_json(struct shoal_sandbox *sandbox);

SHL_API void shoal_sandbox_list_free(struct shoal_sandbox_list *list);
SHL_API size_t shoal_sandbox_list_count(const struct shoal_sandbox_list *list);
/* Owned by the list. NULL beyond the last. */
SHL_API struct shoal_sandbox *shoal_sandbox_list_at(const struct shoal_sandbox_list *list,
                                                    size_t index);
SHL_API const char *shoal_sandbox_list_json(struct shoal_sandbox_list *list);

/* ---- previews ------------------------------------------------------------------- */

struct shoal_preview;      /* the address of a port of a sandbox */
struct shoal_preview_list; /* by port */

/* The record of @port (1 to 65535); the one that is there already, if any. */
SHL_API int shoal_preview_create(struct shoal_client *client,
                                 const char *sandbox_id,
                                 int port,
                                 struct shoal_preview **ret_preview,
                                 struct shoal_error *err);
SHL_API int shoal_preview_list(struct shoal_client *client,
                               const char *sandbox_id,
                               struct shoal_preview_list **ret_list,
                               struct shoal_error *err);
SHL_API int shoal_preview_delete(struct shoal_client *client,
                                 const char *sandbox_id,
                                 int port,
                                 struct shoal_error *err);

SHL_API void shoal_preview_free(struct shoal_preview *preview);
SHL_API const char *shoal_preview_hostname(const struct shoal_preview *preview);
SHL_API int64_t shoal_preview_port(const struct shoal_preview *preview);
/* NULL when the server did not say. */
SHL_API const char *shoal_preview_url(const struct shoal_preview *preview);
SHL_API const char *shoal_preview_created_at(const struct shoal_preview *preview);
SHL_API const char *shoal_preview_json(struct shoal_preview *preview);

SHL_API void shoal_preview_list_free(struct shoal_preview_list *list);
SHL_API size_t shoal_preview_list_count(const struct shoal_preview_list *list);
SHL_API const struct shoal_preview *shoal_preview_list_at(const struct shoal_preview_list *list,
                                                          size_t index);
SHL_API const char *shoal_preview_list_json(struct shoal_preview_list *list);

/* ---- checkpoints ---------------------------------------------------------------- */

struct shoal_checkpoint;      /* a moment of a sandbox that is kept */
struct shoal_checkpoint_list; /* newest first */
struct shoal_fork_list;       /* outcome of several forks, in order */

/* The sandbox runs on; the checkpoint is "processing" on return. @disk_only leaves memory
 * out. @keep above 0 deletes the oldest of the kind so that so many are left; 0 never
 * deletes. */
SHL_API int shoal_checkpoint_create(struct shoal_client *client,
                                    const char *sandbox_id,
                                    const char *name,
                                    bool disk_only,
                                    int keep,
                                    struct shoal_checkpoint **ret_checkpoint,
                                    struct shoal_error *err);
SHL_API int shoal_checkpoint_list(struct shoal_client *client,
                                  const char *sandbox_id,
                                  struct shoal_checkpoint_list **ret_list,
                                  struct shoal_error *err);
/* By id or by name. */
SHL_API int shoal_checkpoint_find(struct shoal_client *client,
                                  const char *sandbox_id,
                                  const char *id_or_name,
                                  struct shoal_checkpoint **ret_checkpoint,
                                  struct shoal_error *err);
/* Until it is ready. SHOAL_EUNAVAILABLE when it failed, with the reason. */
SHL_API int shoal_checkpoint_wait(struct shoal_client *client,
                                  const char *sandbox_id,
                                  const char *checkpoint_id,
                                  struct shoal_checkpoint **ret_checkpoint,
                                  struct shoal_error *err);
SHL_API int shoal_checkpoint_delete(struct shoal_client *client,
                                    const char *sandbox_id,
                                    const char *checkpoint_id,
                                    struct shoal_error *err);
/* The sandbox goes on from the checkpoint, under its id; done on return. */
SHL_API int shoal_checkpoint_restore(struct shoal_client *client,
                                     const char *sandbox_id,
                                     const char *checkpoint_id,
                                     struct shoal_error *err);

/* A new sandbox from a checkpoint. What @changes sets is changed, the template is not
 * looked at; NULL changes nothing. */
SHL_API int shoal_checkpoint_fork(struct shoal_client *client,
                                  const char *checkpoint_id,
                                  const struct shoal_create *changes,
                                  struct shoal_sandbox **ret_sandbox,
                                  struct shoal_error *err);
/* Several in one call. 0 when at least one was made: look at each. */
SHL_API int shoal_checkpoint_fork_many(struct shoal_client *client,
                                       const char *checkpoint_id,
                                       const struct shoal_create *changes,
                                       int count,
                                       struct shoal_fork_list **ret_list,
                                       struct shoal_error *err);

SHL_API void shoal_checkpoint_free(struct shoal_checkpoint *checkpoint);
SHL_API const char *shoal_checkpoint_id(const struct shoal_checkpoint *checkpoint);
SHL_API const char *shoal_checkpoint_sandbox(const struct shoal_checkpoint *checkpoint);
SHL_API const char *shoal_checkpoint_name(const struct shoal_checkpoint *checkpoint);
/* "processing", "ready" or "failed" */
SHL_API const char *shoal_checkpoint_status(const struct shoal_checkpoint *checkpoint);
/* NULL or -1 when the server did not say. */
SHL_API const char *shoal_checkpoint_kind(const struct shoal_checkpoint *checkpoint);
SHL_API const char *shoal_checkpoint_created_at(const struct shoal_checkpoint *checkpoint);
SHL_API const char *shoal_checkpoint_reason(const struct shoal_checkpoint *checkpoint);
SHL_API int64_t shoal_checkpoint_size_bytes(const struct shoal_checkpoint *checkpoint);
SHL_API const char *shoal_checkpoint_json(struct shoal_checkpoint *checkpoint);

SHL_API void shoal_checkpoint_list_free(struct shoal_checkpoint_list *list);
SHL_API size_t shoal_checkpoint_list_count(const struct shoal_checkpoint_list *list);
SHL_API const struct shoal_checkpoint *shoal_checkpoint_list_at(
    const struct shoal_checkpoint_list *list,
    size_t index);
SHL_API const char *shoal_checkpoint_list_json(struct shoal_checkpoint_list *list);

SHL_API void shoal_fork_list_free(struct shoal_fork_list *list);
SHL_API size_t shoal_fork_list_count(const struct shoal_fork_list *list);
/* Id of the new sandbox, or NULL and shoal_fork_list_error says why there is none. */
SHL_API const char *shoal_fork_list_id(const struct shoal_fork_list *list, size_t index);
SHL_API const char *shoal_fork_list_error(const struct shoal_fork_list *list, size_t index);
SHL_API const char *shoal_fork_list_json(struct shoal_fork_list *list);

/* ---- images, named snapshots, patches --------------------------------------------- */

struct shoal_snapshot; /* a built image with a name */
struct shoal_snapshot_list;
struct shoal_patch; /* a script that runs in what is forked from a checkpoint */
struct shoal_patch_list;

/* A line of a build's log; valid during the call. */
typedef void (*shoal_log_cb)(void *arg, const char *text);

/* A sandbox from an image; @manifest is JSON text. Built when nobody did before. @log may be
 * NULL. */
SHL_API int shoal_image_build(struct shoal_client *client,
                              const char *manifest,
                              shoal_log_cb log,
                              void *arg,
                              struct shoal_sandbox **ret_sandbox,
                              struct shoal_error *err);

SHL_API int shoal_snapshot_create(struct shoal_client *client,
                                  const char *name,
                                  const char *manifest,
                                  shoal_log_cb log,
                                  void *arg,
                                  struct shoal_snapshot **ret_snapshot,
                                  struct shoal_error *err);
SHL_API int shoal_snapshot_list(struct shoal_client *client,
                                struct shoal_snapshot_list **ret_list,
                                struct shoal_error *err);
SHL_API int shoal_snapshot_get(struct shoal_client *client,
                               const char *name,
                               struct shoal_snapshot **ret_snapshot,
                               struct shoal_error *err);
SHL_API int shoal_snapshot_delete(struct shoal_client *client,
                                  const char *name,
                                  struct shoal_error *err);
SHL_API void shoal_snapshot_free(struct shoal_snapshot *snapshot);
/* A field of the API: "id", "name", "status", "contentHash", "checkpointId", "createdAt",
 * "lastUsedAt", "error"; NULL when it is not there. */
SHL_API const char *shoal_snapshot_text(const struct shoal_snapshot *snapshot, const char *field);
SHL_API const char *shoal_snapshot_json(struct shoal_snapshot *snapshot);
SHL_API void shoal_snapshot_list_free(struct shoal_snapshot_list *list);
SHL_API size_t shoal_snapshot_list_count(const struct shoal_snapshot_list *list);
SHL_API const struct shoal_snapshot *shoal_snapshot_list_at(const struct shoal_snapshot_list *list,
                                                            size_t index);
SHL_API const char *shoal_snapshot_list_json(struct shoal_snapshot_list *list);

/* @description may be NULL. */
SHL_API int shoal_patch_add(struct shoal_client *client,
                            const char *checkpoint_id,
                            const char *script,
                            const char *description,
                            struct shoal_patch **ret_patch,
                            struct shoal_error *err);
SHL_API int shoal_patch_list(struct shoal_client *client,
                             const char *checkpoint_id,
                             struct shoal_patch_list **ret_list,
                             struct shoal_error *err);
SHL_API int shoal_patch_delete(struct shoal_client *client,
                               const char *checkpoint_id,
                               const char *patch_id,
                               struct shoal_error *err);
SHL_API void shoal_patch_free(struct shoal_patch *patch);
/* "id", "script", "description", "createdAt" */
SHL_API const char *shoal_patch_text(const struct shoal_patch *patch, const char *field);
SHL_API int64_t shoal_patch_sequence(const struct shoal_patch *patch);
SHL_API const char *shoal_patch_json(struct shoal_patch *patch);
SHL_API void shoal_patch_list_free(struct shoal_patch_list *list);
SHL_API size_t shoal_patch_list_count(const struct shoal_patch_list *list);
SHL_API const struct shoal_patch *shoal_patch_list_at(const struct shoal_patch_list *list,
                                                      size_t index);
SHL_API const char *shoal_patch_list_json(struct shoal_patch_list *list);

/* ---- secret stores ------------------------------------------------------------------ */

struct shoal_secret_store;      /* secrets, and the hosts that sandboxes with it may reach */
struct shoal_secret_store_list; /* by name */
struct shoal_secret_list;       /* by name; never with values */
struct shoal_secret;

/* Hosts: api.example.com, *.example.com for everything below it, or *. */
struct shoal_hosts {
    const char *const *items;
    size_t count;
};

/* @allow NULL or empty: sandboxes with it reach everything public. */
SHL_API int shoal_secret_store_create(struct shoal_client *client,
                                      const char *name,
                                      const struct shoal_hosts *allow,
                                      struct shoal_secret_store **ret_store,
                                      struct shoal_error *err);
SHL_API int shoal_secret_store_list(struct shoal_client *client,
                                    struct shoal_secret_store_list **ret_list,
                                    struct shoal_error *err);
SHL_API int shoal_secret_store_get(struct shoal_client *client,
                                   const char *store_id,
                                   struct shoal_secret_store **ret_store,
                                   struct shoal_error *err);
/* @name, @allow: NULL stays as it is; an empty @allow lifts the restriction. */
SHL_API int shoal_secret_store_update(struct shoal_client *client,
                                      const char *store_id,
                                      const char *name,
                                      const struct shoal_hosts *allow,
                                      struct shoal_secret_store **ret_store,
                                      struct shoal_error *err);
/* With its secrets. */
SHL_API int shoal_secret_store_delete(struct shoal_client *client,
                                      const char *store_id,
                                      struct shoal_error *err);
SHL_API void shoal_secret_store_free(struct shoal_secret_store *store);
/* "id", "name", "createdAt", "updatedAt"; NULL when it is not there. */
SHL_API const char *shoal_secret_store_text(const struct shoal_secret_store *store,
                                            const char *field);
/* NULL beyond the last. */
SHL_API const char *shoal_secret_store_allowed(const struct shoal_secret_store *store,
                                               size_t index);
SHL_API const char *shoal_secret_store_json(struct shoal_secret_store *store);
SHL_API void shoal_secret_store_list_free(struct shoal_secret_store_list *list);
SHL_API size_t shoal_secret_store_list_count(const struct shoal_secret_store_list *list);
SHL_API const struct shoal_secret_store *shoal_secret_store_list_at(
    const struct shoal_secret_store_list *list,
    size_t index);
SHL_API const char *shoal_secret_store_list_json(struct shoal_secret_store_list *list);

/* Set or replace. @value: @value_bytes of UTF-8 text; copies made here are wiped. @hosts: where
 * it may go, NULL stays as it is, empty is every host that the store allows. */
SHL_API int shoal_secret_set(struct shoal_client *client,
                             const char *store_id,
                             const char *name,
                             const char *value,
                             size_t value_bytes,
                             const struct shoal_hosts *hosts,
                             struct shoal_error *err);
SHL_API int shoal_secret_list(struct shoal_client *client,
                              const char *store_id,
                              struct shoal_secret_list **ret_list,
                              struct shoal_error *err);
SHL_API int shoal_secret_delete(struct shoal_client *client,
                                const char *store_id,
                                const char *name,
                                struct shoal_error *err);
SHL_API void shoal_secret_list_free(struct shoal_secret_list *list);
SHL_API size_t shoal_secret_list_count(const struct shoal_secret_list *list);
SHL_API const struct shoal_secret *shoal_secret_list_at(const struct shoal_secret_list *list,
                                                        size_t index);
SHL_API const char *shoal_secret_list_json(struct shoal_secret_list *list);
/* "id", "name", "createdAt", "updatedAt" */
SHL_API const char *shoal_secret_text(const struct shoal_secret *secret, const char *field);
/* NULL beyond the last. */
SHL_API const char *shoal_secret_host(const struct shoal_secret *secret, size_t index);

/* ---- commands ------------------------------------------------------------------- */

struct shoal_command;      /* what to run */
struct shoal_exec_result;  /* how it ended */
struct shoal_exec_session; /* one running or ended command */
struct shoal_exec_list;

/* Without arguments @cmd is a line for /bin/sh; with arguments it is a program that is
 * started directly. NULL without memory or for text that is not UTF-8. */
SHL_API struct shoal_command *shoal_command_new(const char *cmd);
SHL_API void shoal_command_free(struct shoal_command *command);
SHL_API int shoal_command_add_arg(struct shoal_command *command, const char *arg);
SHL_API int shoal_command_add_env(struct shoal_command *command,
                                  const char *key,
                                  const char *value);
SHL_API int shoal_command_set_cwd(struct shoal_command *command, const char *cwd);
/* The command is killed after this long; 0 takes the server's default (60). */
SHL_API int shoal_command_set_timeout_s(struct shoal_command *command, int timeout_s);

/* Called between polls while the command runs; @exec_id can be given to
 * shoal_exec_kill. A value other than 0 stops waiting (-ECANCELED); the command goes on. */
typedef int (*shoal_exec_wait_cb)(void *arg, const char *exec_id);

/* Run and wait, by short requests that survive a lost connection or a restarted node
 * (30 s). Falls back to one long request when the server has no asynchronous call.
 * @on_wait may be NULL. A command that fails is success here: see the exit code. */
SHL_API int shoal_exec_run(struct shoal_client *client,
                           const char *id,
                           const struct shoal_command *command,
                           shoal_exec_wait_cb on_wait,
                           void *arg,
                           struct shoal_exec_result **ret_result,
                           struct shoal_error *err);
/* Wait for a command that was started before, also in a session or on a terminal. */
SHL_API int shoal_exec_wait(struct shoal_client *client,
                            const char *id,
                            const char *exec_id,
                            shoal_exec_wait_cb on_wait,
                            void *arg,
                            struct shoal_exec_result **ret_result,
                            struct shoal_error *err);
/* Commands of a sandbox, running and ended. */
SHL_API int shoal_exec_list(struct shoal_client *client,
                            const char *id,
                            struct shoal_exec_list **ret_list,
                            struct shoal_error *err);
/* A client of a session or a terminal. One thread; nothing blocks but the opening: poll
 * shoal_stream_fd and call shoal_stream_step. */
struct shoal_stream;
/* @stream is 1 for stdout (and for terminals), 2 for stderr. Called by shoal_stream_step. */
typedef void (*shoal_stream_cb)(void *arg, int stream, const void *data, size_t len);
SHL_API int shoal_stream_open(struct shoal_client *client,
                              const char *id,
                              const char *session,
                              bool is_terminal,
                              shoal_stream_cb output,
                              void *arg,
                              struct shoal_stream **ret_stream,
                              struct shoal_error *err);
SHL_API void shoal_stream_free(struct shoal_stream *stream);
SHL_API int shoal_stream_fd(const struct shoal_stream *stream);
/* Poll for writing, too? */
SHL_API bool shoal_stream_wants_write(const struct shoal_stream *stream);
/* Move what can be moved, of output 1 MiB at most. 1 when it has ended, else 0. */
SHL_API int shoal_stream_step(struct shoal_stream *stream);
/* There was more: step again before polling. */
SHL_API bool shoal_stream_has_more(const struct shoal_stream *stream);
/* Queue input; only while there is room. */
SHL_API bool shoal_stream_has_room(const struct shoal_stream *stream);
SHL_API int shoal_stream_send(struct shoal_stream *stream, const void *data, size_t len);
/* Behind what was queued: the end of the program's stdin. A terminal gets Ctrl-D. */
SHL_API int shoal_stream_end_input(struct shoal_stream *stream);
/* Has all come that was there before us? Of a session. */
SHL_API bool shoal_stream_is_replayed(const struct shoal_stream *stream);
/* After the end: 1000 it is over, 1001 the sandbox hibernates or moves, 1006 lost. */
SHL_API int shoal_stream_close_code(const struct shoal_stream *stream);
/* False when the session has not ended. -1 for a timeout. */
SHL_API bool shoal_stream_exit_code(const struct shoal_stream *stream, int *ret_code);

/* Start @command with pipes; its session id into @ret_session. It ends @linger_s after its
 * last client has left, 0: it does not. */
SHL_API int shoal_session_start(struct shoal_client *client,
                                const char *id,
                                const struct shoal_command *command,
                                int linger_s,
                                char *ret_session,
                                size_t size,
                                struct shoal_error *err);
/* @command on a terminal, NULL: a login shell. Without a client it hangs up in the end. */
SHL_API int shoal_terminal_create(struct shoal_client *client,
                                  const char *id,
                                  const struct shoal_command *command,
                                  int cols,
                                  int rows,
                                  char *ret_session,
                                  size_t size,
                                  struct shoal_error *err);
SHL_API int shoal_terminal_resize(struct shoal_client *client,
                                  const char *id,
                                  const char *session,
                                  int cols,
                                  int rows,
                                  struct shoal_error *err);

/* @signal to the command's process group. 0 also when it has ended. */
SHL_API int shoal_exec_kill(struct shoal_client *client,
                            const char *id,
                            const char *exec_id,
                            int signal,
                            struct shoal_error *err);

/* Agents of a sandbox: sessions that are prompted, and print events. What is in a request beside
 * the prompt is in docs/api.md. */
struct shoal_agent_config;
SHL_API struct shoal_agent_config *shoal_agent_config_new(void); /* NULL without memory */
SHL_API void shoal_agent_config_free(struct shoal_agent_config *config);
/* @field: prompt, model, systemPrompt, permissionMode, cwd or resume. 0, SHOAL_EINVALIDARG (not
 * UTF-8), -ENOMEM, like the next two. */
SHL_API int shoal_agent_config_set_text(struct shoal_agent_config *config,
                                        const char *field,
                                        const char *text);
SHL_API int shoal_agent_config_set_max_turns(struct shoal_agent_config *config, int max_turns);
SHL_API int shoal_agent_config_add_tool(struct shoal_agent_config *config, const char *tool);
/* JSON: {NAME: {"command": ...}}, also inside of {"mcpServers": ...}. */
SHL_API int shoal_agent_config_set_servers(struct shoal_agent_config *config,
                                           const char *text,
                                           size_t len,
                                           struct shoal_error *err);
/* Its session id into @ret_session: shoal_stream_open attaches to it. */
SHL_API int shoal_agent_start(struct shoal_client *client,
                              const char *id,
                              const struct shoal_agent_config *config,
                              char *ret_session,
                              size_t size,
                              struct shoal_error *err);
SHL_API int shoal_agent_list(struct shoal_client *client,
                             const char *id,
                             struct shoal_exec_list **ret_list,
                             struct shoal_error *err);
SHL_API int shoal_agent_prompt(struct shoal_client *client,
                               const char *id,
                               const char *session,
                               const char *text,
                               struct shoal_error *err);
/* The turn under way ends; the session stays. */
SHL_API int shoal_agent_interrupt(struct shoal_client *client,
                                  const char *id,
                                  const char *session,
                                  struct shoal_error *err);
SHL_API int shoal_agent_kill(struct shoal_client *client,
                             const char *id,
                             const char *session,
                             int signal,
                             struct shoal_error *err);

enum shoal_agent_event_kind {
    SHOAL_AGENT_READY,
    SHOAL_AGENT_CONFIGURED,
    SHOAL_AGENT_TEXT,        /* text: of the agent */
    SHOAL_AGENT_TOOL,        /* name, text: what it is to do */
    SHOAL_AGENT_TOOL_RESULT, /* text */
    SHOAL_AGENT_RESULT,      /* of a turn; name: success, error_max_turns, ...; text */
    SHOAL_AGENT_INTERRUPTED,
    SHOAL_AGENT_ERROR,         /* text */
    SHOAL_AGENT_TURN_COMPLETE, /* text: the conversation to resume, "" none */
    SHOAL_AGENT_OTHER,         /* name: its type; is_error: no event at all */
};

/* Texts are never NULL, valid during the call, and come from the sandbox. */
struct shoal_agent_event {
    enum shoal_agent_event_kind kind;
    const char *name;
    const char *text;
    bool is_error;
};
typedef void (*shoal_agent_cb)(void *arg, const struct shoal_agent_event *event);

/* Makes events of the bytes of a session's stdout. NULL without memory. */
struct shoal_agent_reader;
SHL_API struct shoal_agent_reader *shoal_agent_reader_new(shoal_agent_cb event, void *arg);
SHL_API void shoal_agent_reader_free(struct shoal_agent_reader *reader);
SHL_API void shoal_agent_reader_feed(struct shoal_agent_reader *reader,
                                     const void *data,
                                     size_t len);

SHL_API void shoal_exec_result_free(struct shoal_exec_result *result);
/* 0..255, 128 + N for death by signal N, -1 when the timeout ended it. */
SHL_API int shoal_exec_result_exit_code(const struct shoal_exec_result *result);
/* May contain zero bytes; also terminated by one. */
SHL_API const char *shoal_exec_result_stdout(const struct shoal_exec_result *result,
                                             size_t *ret_len_bytes);
SHL_API const char *shoal_exec_result_stderr(const struct shoal_exec_result *result,
                                             size_t *ret_len_bytes);
/* The server dropped part of the output because it was too long. */
SHL_API bool shoal_exec_result_truncated(const struct shoal_exec_result *result);
SHL_API const char *shoal_exec_result_json(struct shoal_exec_result *result);

SHL_API void shoal_exec_list_free(struct shoal_exec_list *list);
SHL_API size_t shoal_exec_list_count(const struct shoal_exec_list *list);
SHL_API const struct shoal_exec_session *shoal_exec_list_at(const struct shoal_exec_list *list,
                                                            size_t index);
SHL_API const char *shoal_exec_list_json(struct shoal_exec_list *list);
SHL_API const char *shoal_exec_session_id(const struct shoal_exec_session *session);
SHL_API const char *shoal_exec_session_command(const struct shoal_exec_session *session);
SHL_API bool shoal_exec_session_running(const struct shoal_exec_session *session);
/* -1 while it runs. */
SHL_API int shoal_exec_session_exit_code(const struct shoal_exec_session *session);
SHL_API const char *shoal_exec_session_started_at(const struct shoal_exec_session *session);

/* ---- files ---------------------------------------------------------------------- */

struct shoal_file_list;  /* sorted by name */
struct shoal_file_entry; /* one name in it */

/* Gives up to @size bytes; returns how many, 0 at the end, or a negative code, which
 * ends the call with that code. */
typedef int64_t (*shoal_source_cb)(void *arg, void *dst, size_t size);
/* Takes all @len bytes; 0, or a negative code, which ends the call with that code. */
typedef int (*shoal_sink_cb)(void *arg, const void *data, size_t len);

/* Stream a file out of the sandbox. Memory does not grow with the file. A connection
 * that ends early is an error, never a short file. */
SHL_API int shoal_file_read(struct shoal_client *client,
                            const char *id,
                            const char *path,
                            shoal_sink_cb sink,
                            void *arg,
                            struct shoal_error *err);
/* Stream a file into the sandbox. @size_bytes is what the source will give, or -1 when
 * that is not known. Parents are made, an existing file is replaced. */
SHL_API int shoal_file_write(struct shoal_client *client,
                             const char *id,
                             const char *path,
                             int64_t size_bytes,
                             shoal_source_cb source,
                             void *arg,
                             struct shoal_error *err);
SHL_API int shoal_file_list(struct shoal_client *client,
                            const char *id,
                            const char *path,
                            struct shoal_file_list **ret_list,
                            struct shoal_error *err);
/* With parents; fine when it is there. */
SHL_API int shoal_file_mkdir(struct shoal_client *client,
                             const char *id,
                             const char *path,
                             struct shoal_error *err);
/* Also folders with content; fine when nothing is there. */
SHL_API int shoal_file_remove(struct shoal_client *client,
                              const char *id,
                              const char *path,
                              struct shoal_error *err);

SHL_API void shoal_file_list_free(struct shoal_file_list *list);
SHL_API size_t shoal_file_list_count(const struct shoal_file_list *list);
SHL_API const struct shoal_file_entry *shoal_file_list_at(const struct shoal_file_list *list,
                                                          size_t index);
SHL_API const char *shoal_file_list_json(struct shoal_file_list *list);
SHL_API const char *shoal_file_entry_name(const struct shoal_file_entry *entry);
SHL_API const char *shoal_file_entry_path(const struct shoal_file_entry *entry);
SHL_API bool shoal_file_entry_is_dir(const struct shoal_file_entry *entry);
SHL_API int64_t shoal_file_entry_size_bytes(const struct shoal_file_entry *entry);

/* ---- the server ----------------------------------------------------------------- */

struct shoal_worker_list; /* the nodes that run sandboxes */
struct shoal_worker;

/* Is endpoint @index alive, and ready for work? Never fails over. 0 when alive;
 * @ret_ready false then means it said it is not ready (its text is in @err). */
SHL_API int shoal_endpoint_health(struct shoal_client *client,
                                  size_t index,
                                  bool *ret_ready,
                                  struct shoal_error *err);
SHL_API int shoal_worker_list(struct shoal_client *client,
                              struct shoal_worker_list **ret_list,
                              struct shoal_error *err);
SHL_API void shoal_worker_list_free(struct shoal_worker_list *list);
SHL_API size_t shoal_worker_list_count(const struct shoal_worker_list *list);
SHL_API const struct shoal_worker *shoal_worker_list_at(const struct shoal_worker_list *list,
                                                        size_t index);
SHL_API const char *shoal_worker_list_json(struct shoal_worker_list *list);
SHL_API const char *shoal_worker_id(const struct shoal_worker *worker);
SHL_API const char *shoal_worker_version(const struct shoal_worker *worker);
/* -1 when the server did not say. */
SHL_API int64_t shoal_worker_capacity(const struct shoal_worker *worker);
SHL_API int64_t shoal_worker_current(const struct shoal_worker *worker);
SHL_API int64_t shoal_worker_memory_total_mb(const struct shoal_worker *worker);
SHL_API int64_t shoal_worker_memory_committed_mb(const struct shoal_worker *worker);
SHL_API bool shoal_worker_draining(const struct shoal_worker *worker);

/* ---- the cluster ---------------------------------------------------------------- */

struct shoal_cluster;    /* nodes and scheduler, as the node that was asked sees them */
struct shoal_node;       /* one of its nodes */
struct shoal_join_token; /* lets one machine join */

SHL_API int shoal_cluster_get(struct shoal_client *client,
                              struct shoal_cluster **ret_cluster,
                              struct shoal_error *err);
/* A backup of what the cluster agrees on, its keys among it, given to @sink: for admin keys. */
SHL_API int shoal_cluster_backup(struct shoal_client *client,
                                 shoal_sink_cb sink,
                                 void *arg,
                                 struct shoal_error *err);
SHL_API void shoal_cluster_free(struct shoal_cluster *cluster);
/* NULL or -1 when the server did not say, or there is none. */
SHL_API const char *shoal_cluster_id(const struct shoal_cluster *cluster);
SHL_API const char *shoal_cluster_mode(const struct shoal_cluster *cluster); /* single, mesh */
SHL_API const char *shoal_cluster_self(const struct shoal_cluster *cluster); /* who answered */
SHL_API const char *shoal_cluster_leader(const struct shoal_cluster *cluster);
SHL_API bool shoal_cluster_has_quorum(const struct shoal_cluster *cluster);
SHL_API int64_t shoal_cluster_term(const struct shoal_cluster *cluster);
SHL_API int64_t shoal_cluster_commit_index(const struct shoal_cluster *cluster);
SHL_API int64_t shoal_cluster_applied_index(const struct shoal_cluster *cluster);
/* Of the replicated state at the applied index. */
SHL_API const char *shoal_cluster_digest(const struct shoal_cluster *cluster);
SHL_API size_t shoal_cluster_node_count(const struct shoal_cluster *cluster);
/* Owned by the cluster. NULL beyond the last. */
SHL_API const struct shoal_node *shoal_cluster_node_at(const struct shoal_cluster *cluster,
                                                       size_t index);
SHL_API const char *shoal_cluster_json(struct shoal_cluster *cluster);
/* The nodes alone. */
SHL_API const char *shoal_cluster_nodes_json(struct shoal_cluster *cluster);

SHL_API const char *shoal_node_name(const struct shoal_node *node);
SHL_API const char *shoal_node_id(const struct shoal_node *node);
SHL_API const char *shoal_node_state(const struct shoal_node *node); /* alive, suspect, ... */
SHL_API const char *shoal_node_mark(const struct shoal_node *node);  /* none, cordoned, draining */
SHL_API const char *shoal_node_role(const struct shoal_node *node);  /* voter, standby */
SHL_API const char *shoal_node_url(const struct shoal_node *node);
SHL_API const char *shoal_node_version(const struct shoal_node *node);
SHL_API bool shoal_node_is_scheduler(const struct shoal_node *node);
SHL_API bool shoal_node_is_witness(const struct shoal_node *node);
SHL_API bool shoal_node_is_flapping(const struct shoal_node *node);
SHL_API int64_t shoal_node_sandboxes(const struct shoal_node *node);
SHL_API int64_t shoal_node_hibernated(const struct shoal_node *node);
SHL_API int64_t shoal_node_memory_mb(const struct shoal_node *node);
SHL_API int64_t shoal_node_memory_committed_mb(const struct shoal_node *node);

/* @node is a name or an id. Drain: no new sandboxes and no wakes there, what runs goes on.
 * Cordon: no new sandboxes. Uncordon: neither. Remove: for good. All need an admin key. */
SHL_API int shoal_node_drain(struct shoal_client *client,
                             const char *node,
                             struct shoal_error *err);
/* Move what runs there to other nodes; returns when that has begun. */
SHL_API int shoal_node_evict(struct shoal_client *client,
                             const char *node,
                             struct shoal_error *err);
SHL_API int shoal_node_cordon(struct shoal_client *client,
                              const char *node,
                              struct shoal_error *err);
SHL_API int shoal_node_uncordon(struct shoal_client *client,
                                const char *node,
                                struct shoal_error *err);
SHL_API int shoal_node_remove(struct shoal_client *client,
                              const char *node,
                              struct shoal_error *err);

/* @ttl_s 0: the server's default. */
SHL_API int shoal_join_token_create(struct shoal_client *client,
                                    int ttl_s,
                                    struct shoal_join_token **ret_token,
                                    struct shoal_error *err);
SHL_API void shoal_join_token_free(struct shoal_join_token *token);
SHL_API const char *shoal_join_token_text(const struct shoal_join_token *token);
SHL_API const char *shoal_join_token_expires_at(const struct shoal_join_token *token);
SHL_API const char *shoal_join_token_json(struct shoal_join_token *token);

#ifdef __cplusplus
}
#endif

#endif /* SHL_CLIENT_SHOAL_H */
