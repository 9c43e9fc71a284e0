#include "node/sandbox/sandbox.h"

void merge_consider(struct sandbox *sandbox)
{
    (void)sandbox;
}
