/* Warm templates: what the files of this subject share. See warm.c. */
#ifndef SHL_NODE_SANDBOX_WARM_H
#define SHL_NODE_SANDBOX_WARM_H

#include "node/sandbox/sandbox.h"

struct warm {
    struct shl_list link; /* of the manager */
    struct node_manager *manager;
    char template_name[NODE_TEMPLATE_MAX];
    char image[128];               /* device, inode, size and time of the image: has it changed? */
    char base[NODE_LAYER_ID_SIZE]; /* identity of the image */
    char id[NODE_LAYER_ID_SIZE];   /* of the warm template; "" when it cannot be told */
    unsigned generation;           /* part of the id */
    bool ready;                    /* then one reference on id is held */
    uint32_t failures;             /* in a row */
    uint64_t retry_at_ms;          /* monotonic */

    /* while it is being made: from warm_make to warm_made */
    bool making;
    bool trying;                /* second round: restored, no longer booted */
    struct sandbox *maker;      /* the hidden sandbox of this round; NULL when it is gone */
    int64_t exit_code;          /* of its command, -1: not known */
    struct node_stack stack;    /* of its snapshot, referenced */
    struct node_layer_id draft; /* referenced: the folder before it gets its name */
    bool working;               /* the job is under way */
    bool worked;                /* ... and was successful, in this round */
    uint64_t began_us;
    uv_work_t work;
    int rc;
    struct shl_err err;
};

/* warm_make.c: boot, warm up, snapshot, try, publish; then warm_made. */
SHL_MUST_CHECK int warm_make(struct warm *warm, struct shl_err *err);
void warm_made(struct warm *warm, int code, const char *msg);

#endif /* SHL_NODE_SANDBOX_WARM_H */
