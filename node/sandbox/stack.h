/* What a VM is started from: the layer files below it, by id.
 *
 * Layer files live in DATA/layers/, each written once, then read-only, named by a random
 * id and its kind: ID.disk (sealed overlay), ID.mem (memory layer), ID.state (VMM
 * state). They are shared: records of sandboxes and checkpoints and work under way hold
 * references, counted in memory by struct node_layers; when the last one goes, the file is removed.
 * At start the counts are rebuilt from the records and files that nobody names go. So a record must
 * be saved with its new stack before the references of the old one are dropped, and files are
 * synced before a record names them.
 *
 * Warm templates: DATA/warm/ID/{mem,state,disk,work}, made by this node from a template,
 * kernel, initrd and CPU of that identity (ID is their hash); stacks name ID as warm and
 * start with its memory as the raw base and its disk as the lowest layer. `work` is the memory
 * layer of a trial run: which pages a run that starts from it is going to write. Those of other
 * nodes, which this one has for what it imported, have only mem (portable.h).
 *
 * Images: DATA/bases/ID/disk.raw, imported, too; used when the template's own has another
 * identity, or is not there.
 *
 * Loop thread, except node_stack_open (thread pool), which touches only its arguments.
 */
#ifndef SHL_NODE_SANDBOX_STACK_H
#define SHL_NODE_SANDBOX_STACK_H

#include "base/err.h"
#include "base/mp.h"
#include "node/sandbox/manager.h"
#include "vmm-kvm/control.h"

#define NODE_LAYER_ID_SIZE 33 /* 32 hex digits */

/* Merged in the background when a stack has more than this of a kind. */
#define NODE_STACK_DISK_MERGE 8
#define NODE_STACK_MEM_MERGE  1

struct node_layer_id {
    char hex[NODE_LAYER_ID_SIZE]; /* "": none */
};

struct node_stack {
    char base[NODE_LAYER_ID_SIZE]; /* identity of the disk image, to notice a rebuilt template */
    char warm[NODE_LAYER_ID_SIZE]; /* warm template below, "" when booted from the image alone */
    bool warm_mem;                 /* memory begins with the warm template's; false: with zeros */
    bool whole_disk; /* @disk stands on the template's image; the warm one's disk is not below */
    struct node_layer_id disk[VMM_DISK_LAYERS_MAX]; /* sealed overlays, lowest first */
    unsigned disk_count;
    struct node_layer_id mem[VMM_MEM_LAYERS_MAX]; /* of the saved or running memory */
    unsigned mem_count;
    /* "": nothing to restore, boot from the disk. Equal to warm: the warm template's own. */
    struct node_layer_id state;
};

struct sandbox;
struct node_layers; /* the reference counts; one per manager */

/* Take and drop references on every layer @stack names (warm templates too). */
void node_stack_ref(struct node_manager *manager, const struct node_stack *stack);
void node_stack_unref(struct node_manager *manager, const struct node_stack *stack);

/* As field "stack" of a record. Decode checks everything: SHL_EPROTO. */
void node_stack_encode(struct shl_mp_writer *w, const char *key, const struct node_stack *stack);
SHL_MUST_CHECK int node_stack_decode(const msgpack_object *map,
                                     const char *key,
                                     struct node_stack *stack);

/* All descriptors of @stack, read-only. Blocking. close gives them back. Without a state the
 * memory is left out. SHL_ECONFLICT: the template changed; SHL_ECORRUPT: a file of the memory
 * is missing; -ENOENT: one of the disk is. */
struct node_stack_fds {
    int base, warm_mem, state; /* -1: none */
    int working_set;           /* of a run that starts from the warm template itself, or -1 */
    int disk[VMM_DISK_LAYERS_MAX + 1];
    unsigned disk_count; /* with the warm template's as the lowest */
    int mem[VMM_MEM_LAYERS_MAX];
    unsigned mem_count;
};
SHL_MUST_CHECK int node_stack_open(const struct node_manager *manager,
                                   const char *template_name,
                                   const struct node_stack *stack,
                                   struct node_stack_fds *ret,
                                   struct shl_err *err);
void node_stack_fds_init(struct node_stack_fds *fds);
void node_stack_close(struct node_stack_fds *fds);

/* ---- snapshot of a running sandbox (snapshot.c) ----------------------------------- */

struct sandbox_snapshot_stats {
    uint64_t pause_us, dirty_pages, mem_bytes, state_bytes, disk_bytes;
};

/* Outcome. On success @stack is what a VM can be started from to continue at that
 * instant; its layers are synced and referenced once for the callee, who unrefs. */
typedef void (*sandbox_snapshot_cb)(void *arg,
                                    int code,
                                    const char *msg,
                                    const struct node_stack *stack,
                                    const struct sandbox_snapshot_stats *stats);

enum sandbox_snapshot_kind {
    SANDBOX_SNAPSHOT_FULL, /* memory, state and disk; the VM goes on */
    SANDBOX_SNAPSHOT_DISK, /* the disk alone; the VM goes on */
    SANDBOX_SNAPSHOT_LAST, /* full, and the VM stays paused: the caller ends or resumes it */
};

/* Freeze the guest's user processes, pause, save, go on, sync, thaw. One at a time per
 * sandbox; a second caller waits its turn. The running sandbox continues on its own
 * stack (the sealed overlay joins it) whatever happens; its record is saved before @cb. */
SHL_MUST_CHECK int sandbox_snapshot(struct sandbox *sandbox,
                                    enum sandbox_snapshot_kind kind,
                                    sandbox_snapshot_cb cb,
                                    void *arg);

/* ---- starting from a stack (start.c, boot.c) --------------------------------------- */

/* A new sandbox with @spec that starts from @stack (referenced by the callee): restored
 * when it has a state, else booted from its disk. Otherwise as node_manager_create, which
 * itself is this with the stack of the warm template. @from: checkpoint id or "". */
SHL_MUST_CHECK int sandbox_create_from(struct node_manager *manager,
                                       const struct node_sandbox_spec *spec,
                                       const struct node_stack *stack,
                                       const char *from,
                                       node_create_cb cb,
                                       void *arg,
                                       struct shl_err *err);

/* A running or hibernated sandbox goes on from @stack under its own id: hibernates first,
 * then wakes from @stack; if that fails it wakes from its own state again and @cb gets
 * the error. This is restore in place. */
void sandbox_switch(struct sandbox *sandbox,
                    const struct node_stack *stack,
                    node_sandbox_cb cb,
                    void *arg);

#endif /* SHL_NODE_SANDBOX_STACK_H */
