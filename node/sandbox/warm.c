#include "node/sandbox/sandbox.h"

void warm_stack(struct node_manager *manager, const char *template_name, struct node_stack *ret)
{
    (void)manager;
    (void)template_name;
    *ret = (struct node_stack){0};
}

void warm_is_bad(struct node_manager *manager, const char *id)
{
    (void)manager;
    (void)id;
}

uint32_t warm_count(const struct node_manager *manager)
{
    (void)manager;
    return 0;
}
