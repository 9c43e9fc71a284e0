/* A request that looks at rows (router.h) and changes some, one after the other.
 *
 *   sync -> plan -> change -> plan ... -> done
 *
 * The plan is made of what this node knows, which is everything that was done before; when the row
 * was changed by somebody else meanwhile it is made anew. Loop thread.
 */
#ifndef SHL_NODE_API_ROW_JOB_H
#define SHL_NODE_API_ROW_JOB_H

#include "node/api/call.h"
#include "node/api/router.h"

#define NODE_ROW_JOB_TRIES_MAX 8

struct node_row_job {
    struct node_server *server; /* referenced */
    struct node_call *call;     /* referenced; NULL: of the node itself */
    /* 1: the change below is to be made, after which it is asked again; 0: nothing is left to do;
     * or an error with a sentence. */
    int (*plan)(struct node_row_job *job, struct shl_err *err);
    /* Once; frees the job (node_row_job_end). @code as for handlers. */
    void (*done)(struct node_row_job *job, int code, const char *msg);
    bool is_read; /* goes on with what this node knows when the cluster cannot be asked */
    /* The change; .value is the job's. */
    char key[NODE_ROW_KEY_SIZE];
    struct shl_buf value;
    bool is_delete;
    uint64_t expected; /* revision it has, 0: none */
    unsigned made;     /* changes so far */
    /* Internal. */
    unsigned tries;
};

/* @call or, when that is NULL, @server. Members but plan and done may be set before begin. */
void node_row_job_init(struct node_row_job *job,
                       struct node_server *server,
                       struct node_call *call);
/* Answers 501 through done when the router has no rows. */
void node_row_job_begin(struct node_row_job *job);
/* Gives back what init and begin took, except the job's own memory. */
void node_row_job_end(struct node_row_job *job);

/* @go when this node knows all that was done before; a call that ended meanwhile is left alone. */
void node_row_read(struct node_call *call, void (*go)(struct node_call *call));

#endif /* SHL_NODE_API_ROW_JOB_H */
