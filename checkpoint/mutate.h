/* Known bugs of the pure cores that the simulator can switch back on, to prove that it would find
 * them. A bit mask in the configuration of each core; zero in production. */
#ifndef SHL_CHECKPOINT_MUTATE_H
#define SHL_CHECKPOINT_MUTATE_H

enum ckpt_mutation {
    CKPT_MUT_TRIM_UNASKED = 1u << 0,    /* plan: drops a copy by its own view, without a yes */
    CKPT_MUT_TRIM_SAYS_YES = 1u << 1,   /* plan: says yes while it is dropping its own copy */
    CKPT_MUT_DOMAINS_IGNORED = 1u << 2, /* plan: failure domains do not count */
    CKPT_MUT_GRACE_IGNORED = 1u << 3,   /* plan: a dead node is lost at once */
    CKPT_MUT_LOST_COUNTED = 1u << 4,    /* plan: copies of lost nodes count */
};

#endif /* SHL_CHECKPOINT_MUTATE_H */
