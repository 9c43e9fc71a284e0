#include "sim/fault.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "sim/mutate.h"
#include "sim/rng.h"

static const char *const names[] = {
#define SIM_FAULT_NAME(id, name, text) [SIM_FAULT_##id] = (name),
    SIM_FAULT_MAP(SIM_FAULT_NAME)
#undef SIM_FAULT_NAME
};

static const char *const texts[] = {
#define SIM_FAULT_TEXT(id, name, text) [SIM_FAULT_##id] = (text),
    SIM_FAULT_MAP(SIM_FAULT_TEXT)
#undef SIM_FAULT_TEXT
};

const char *sim_fault_name(enum sim_fault_class class)
{
    return names[class];
}

const char *sim_fault_text(enum sim_fault_class class)
{
    return texts[class];
}

int sim_fault_parse(const char *name)
{
    for (int i = 0; i < SIM_FAULT_CLASSES; i++) {
        if (strcmp(name, names[i]) == 0) {
            return i;
        }
    }
    return -EINVAL;
}

void sim_schedule_release(struct sim_schedule *schedule)
{
    free(schedule->faults);
    *schedule = (struct sim_schedule){0};
}

void sim_schedule_add(struct sim_schedule *schedule, struct sim_fault fault)
{
    size_t at = schedule->count;

    assert(schedule->count < SIM_FAULTS_MAX);
    if (schedule->count == schedule->cap) {
        schedule->cap = schedule->cap ? schedule->cap * 2 : 64;
        schedule->faults = realloc(schedule->faults, schedule->cap * sizeof(*schedule->faults));
        assert(schedule->faults);
    }
    while (at > 0 && schedule->faults[at - 1].at_us > fault.at_us) {
        schedule->faults[at] = schedule->faults[at - 1];
        at--;
    }
    schedule->faults[at] = fault;
    schedule->count++;
}

void sim_schedule_copy(struct sim_schedule *dst, const struct sim_schedule *src)
{
    *dst = *src;
    dst->faults = NULL;
    dst->cap = src->count;
    if (src->count > 0) {
        dst->faults = malloc(src->count * sizeof(*dst->faults));
        assert(dst->faults);
        memcpy(dst->faults, src->faults, src->count * sizeof(*dst->faults));
    }
}

void sim_schedule_drop_class(struct sim_schedule *schedule, enum sim_fault_class class)
{
    size_t kept = 0;

    for (size_t i = 0; i < schedule->count; i++) {
        if (schedule->faults[i].class != class) {
            schedule->faults[kept++] = schedule->faults[i];
        }
    }
    schedule->count = kept;
    schedule->classes &= ~(1u << class);
}

/* Drawing. Every class has a stream of its own, so switching one off leaves the rest. */

static uint32_t draw_nodes(struct sim_rng *rng)
{
    uint64_t roll = sim_rng_below(rng, 100);

    if (roll < 2) {
        return 1;
    }
    if (roll < 6) {
        return 2;
    }
    if (roll < 46) {
        return 3;
    }
    if (roll < 62) {
        return 4;
    }
    if (roll < 92) {
        return 5;
    }
    if (roll < 96) {
        return (uint32_t)sim_rng_range(rng, 6, 9);
    }
    return (uint32_t)sim_rng_range(rng, 10, 25);
}

static uint64_t ms(uint64_t n)
{
    return n * 1000;
}

/* Short ones are common, long ones happen. */
static uint64_t draw_span(struct sim_rng *rng,
                          uint64_t least_ms,
                          uint64_t mean_ms,
                          uint64_t most_ms)
{
    uint64_t span = least_ms + sim_rng_exp(rng, mean_ms);

    return ms(span < most_ms ? span : most_ms);
}

static uint64_t draw_set(struct sim_rng *rng, uint32_t nodes)
{
    uint64_t all = nodes == 64 ? UINT64_MAX : (UINT64_C(1) << nodes) - 1;
    uint64_t set = sim_rng_next(rng) & all;

    return set == 0 || set == all ? UINT64_C(1) << sim_rng_below(rng, nodes) : set;
}

static bool names_link(enum sim_fault_class class)
{
    return class == SIM_FAULT_SLOW_LINK || class == SIM_FAULT_CLOG || class == SIM_FAULT_RESET ||
           class == SIM_FAULT_ONE_WAY;
}

static bool names_node(enum sim_fault_class class)
{
    return class == SIM_FAULT_ISOLATE || class == SIM_FAULT_CRASH || class == SIM_FAULT_KILL ||
           class == SIM_FAULT_PAUSE || class == SIM_FAULT_LAG || class == SIM_FAULT_SYNC_SLOW ||
           class == SIM_FAULT_WRITE_ERROR || class == SIM_FAULT_CRASH_UNSYNCED ||
           class == SIM_FAULT_CLOCK_RATE || class == SIM_FAULT_CLOCK_STEP ||
           class == SIM_FAULT_WIPE || class == SIM_FAULT_REMOVE || class == SIM_FAULT_ROT ||
           class == SIM_FAULT_GARBLE;
}

/* Values and spans of one fault; false when the class makes no sense with so few nodes. */
static bool draw_fault(struct sim_fault *fault, struct sim_rng *rng, uint32_t nodes)
{
    fault->a = 0;
    fault->b = 0;
    fault->value = 0;
    if (names_node(fault->class) || names_link(fault->class)) {
        fault->a = (uint32_t)sim_rng_below(rng, nodes);
    }
    if (names_link(fault->class)) {
        fault->b = (uint32_t)(fault->a + sim_rng_range(rng, 1, nodes)) % nodes;
        fault->b = fault->b == fault->a ? (fault->a + 1) % nodes : fault->b;
    }
    switch (fault->class) {
    case SIM_FAULT_LOSS:
        fault->value = sim_rng_range(rng, 1000, 300000);
        fault->for_us = draw_span(rng, 200, 3000, 8000);
        return nodes > 1;
    case SIM_FAULT_DUP:
        fault->value = sim_rng_range(rng, 10000, 500000);
        fault->for_us = draw_span(rng, 200, 3000, 8000);
        return nodes > 1;
    case SIM_FAULT_DELAY:
        fault->value = ms(1) + sim_rng_exp(rng, ms(30));
        fault->for_us = draw_span(rng, 200, 2000, 6000);
        return nodes > 1;
    case SIM_FAULT_SLOW_LINK:
        fault->value = ms(1) + sim_rng_exp(rng, ms(100));
        fault->for_us = draw_span(rng, 200, 2000, 6000);
        return nodes > 1;
    case SIM_FAULT_CLOG:
        fault->for_us = draw_span(rng, 10, 700, 5000);
        return nodes > 1;
    case SIM_FAULT_RESET:
        fault->for_us = 0;
        return nodes > 1;
    case SIM_FAULT_ONE_WAY:
        fault->value = sim_rng_below(rng, 2);
        fault->for_us = draw_span(rng, 50, 1500, 8000);
        return nodes > 1;
    case SIM_FAULT_PARTITION:
        fault->value = draw_set(rng, nodes);
        fault->b = (uint32_t)sim_rng_below(rng, 2);
        fault->for_us = draw_span(rng, 100, 2000, 10000);
        return nodes > 1;
    case SIM_FAULT_RING:
        fault->b = (uint32_t)sim_rng_below(rng, 2);
        fault->for_us = draw_span(rng, 100, 1500, 6000);
        return nodes > 3;
    case SIM_FAULT_ISOLATE:
    case SIM_FAULT_ISOLATE_LEADER:
        fault->b = (uint32_t)sim_rng_below(rng, 2);
        fault->for_us = draw_span(rng, 100, 1500, 8000);
        return nodes > 1;
    case SIM_FAULT_CRASH:
    case SIM_FAULT_KILL:
    case SIM_FAULT_CRASH_LEADER:
    case SIM_FAULT_WRITE_ERROR:
        fault->for_us = draw_span(rng, 20, 1000, 8000);
        return true;
    case SIM_FAULT_CRASH_UNSYNCED:
        fault->for_us = draw_span(rng, 20, 150, 2000);
        return true;
    case SIM_FAULT_RIVALS:
        fault->value = ms(sim_rng_range(rng, 50, 500));
        fault->for_us = draw_span(rng, 300, 1000, 4000);
        return nodes > 2;
    case SIM_FAULT_PAUSE_LEADER:
        fault->for_us = draw_span(rng, 200, 700, 8000);
        return true;
    case SIM_FAULT_MASS_RESTART:
        fault->value = sim_rng_below(rng, 2) ? UINT64_MAX : draw_set(rng, nodes);
        fault->for_us = draw_span(rng, 50, 1000, 4000);
        return true;
    case SIM_FAULT_PAUSE:
        fault->for_us = draw_span(rng, 100, 1500, 30000);
        return true;
    case SIM_FAULT_LAG:
        fault->value = ms(1) + sim_rng_exp(rng, ms(100));
        fault->for_us = draw_span(rng, 200, 2000, 8000);
        return true;
    case SIM_FAULT_SYNC_SLOW:
        fault->value = ms(5) + sim_rng_exp(rng, ms(60));
        fault->for_us = draw_span(rng, 200, 2000, 8000);
        return true;
    case SIM_FAULT_CLOCK_RATE:
        fault->value = sim_rng_range(rng, 900000, 1100000);
        fault->for_us = 0;
        return true;
    case SIM_FAULT_CLOCK_STEP:
        fault->value = (uint64_t)((int64_t)sim_rng_range(rng, 0, 7200u * SIM_SECOND) -
                                  (int64_t)3600 * SIM_SECOND);
        fault->for_us = 0;
        return true;
    case SIM_FAULT_WIPE:
        fault->for_us = draw_span(rng, 50, 1000, 4000);
        return nodes > 2;
    case SIM_FAULT_JOIN_STORM:
        fault->for_us = 0;
        return true;
    case SIM_FAULT_REMOVE:
        fault->for_us = 0;
        return nodes > 3;
    case SIM_FAULT_TRANSFER:
        fault->for_us = 0;
        return nodes > 1;
    case SIM_FAULT_ROT:
        fault->value = sim_rng_below(rng, 1000);
        fault->for_us = 0;
        return nodes > 1;
    case SIM_FAULT_GARBLE:
        fault->value = sim_rng_range(rng, 20000, 600000);
        fault->for_us = draw_span(rng, 500, 3000, 8000);
        return nodes > 1;
    case SIM_FAULT_CLASSES:
        break;
    }
    return false;
}

/* A node that is back for good or gone for good happens once: more than that may cost the
 * majority of the disks, and then nothing is promised. */
static bool happens_once(enum sim_fault_class class)
{
    return class == SIM_FAULT_WIPE || class == SIM_FAULT_JOIN_STORM || class == SIM_FAULT_REMOVE;
}

static void draw_class(struct sim_schedule *schedule, enum sim_fault_class class)
{
    struct sim_rng rng;
    uint64_t count = 0;

    sim_rng_split(&rng, schedule->seed, SIM_SUBJECT_FAULTS, (uint32_t) class + 1);
    count = happens_once(class) ? 1 : 1 + sim_rng_exp(&rng, class == SIM_FAULT_ROT ? 6 : 2);
    for (uint64_t i = 0; i < count; i++) {
        struct sim_fault fault = {.class = class};

        fault.at_us = sim_rng_below(&rng, schedule->faults_us);
        if (!draw_fault(&fault, &rng, schedule->nodes)) {
            return;
        }
        sim_schedule_add(schedule, fault);
        /* Now and then a crash loop. */
        if (class == SIM_FAULT_CRASH && sim_rng_below(&rng, 10) == 0) {
            for (unsigned k = 0; k < 4; k++) {
                fault.at_us += fault.for_us + ms(sim_rng_range(&rng, 1, 500));
                fault.for_us = ms(sim_rng_range(&rng, 10, 300));
                if (fault.at_us < schedule->faults_us) {
                    sim_schedule_add(schedule, fault);
                }
            }
        }
    }
}

void sim_schedule_draw(struct sim_schedule *schedule,
                       uint64_t seed,
                       uint32_t nodes,
                       uint32_t seconds)
{
    struct sim_rng rng;
    uint32_t drawn = 0;

    *schedule = (struct sim_schedule){.seed = seed};
    sim_rng_split(&rng, seed, SIM_SUBJECT_FAULTS, 0);
    drawn = draw_nodes(&rng);
    schedule->nodes = nodes ? nodes : drawn;
    assert(schedule->nodes <= SIM_NODES_MAX);
    drawn = (uint32_t)sim_rng_range(&rng, 6, 14);
    if (schedule->nodes > 5 && drawn > 8) {
        drawn = 8; /* a large cluster costs the square */
    }
    schedule->faults_us = (uint64_t)(seconds ? seconds : drawn) * SIM_SECOND;
    schedule->end_us = schedule->faults_us + (uint64_t)30 * SIM_SECOND;
    for (unsigned i = 0; i < SIM_FAULT_CLASSES; i++) {
        schedule->classes |= (uint32_t)sim_rng_below(&rng, 2) << i;
    }
    schedule->spares = 1 + (uint32_t)sim_rng_below(&rng, 3);
    if (schedule->nodes + schedule->spares > SIM_NODES_MAX) {
        schedule->spares = SIM_NODES_MAX - schedule->nodes;
    }
    for (int class = 0; class < SIM_FAULT_CLASSES; class ++) {
        if (schedule->classes & 1u << class) {
            draw_class(schedule, (enum sim_fault_class) class);
        }
    }
}

void sim_schedule_print(const struct sim_schedule *schedule, FILE *out)
{
    fprintf(out,
            "seed %" PRIu64 "\nnodes %u\nspares %u\nfaults-us %" PRIu64 "\nend-us %" PRIu64 "\n",
            schedule->seed, schedule->nodes, schedule->spares, schedule->faults_us,
            schedule->end_us);
    if (schedule->mutation > 0) {
        fprintf(out, "mutate %s\n", sim_mutation_get(schedule->mutation)->name);
    }
    fprintf(out, "# fault AT_US CLASS FOR_US A B VALUE\n");
    for (size_t i = 0; i < schedule->count; i++) {
        const struct sim_fault *f = &schedule->faults[i];

        fprintf(out, "fault %" PRIu64 " %s %" PRIu64 " %u %u %" PRIu64 "\n", f->at_us,
                sim_fault_name(f->class), f->for_us, f->a, f->b, f->value);
    }
}

static int read_fault(struct sim_schedule *schedule, const char *rest)
{
    struct sim_fault fault = {0};
    char name[32];
    int class = 0;

    if (sscanf(rest, "%" SCNu64 " %31s %" SCNu64 " %u %u %" SCNu64, &fault.at_us, name,
               &fault.for_us, &fault.a, &fault.b, &fault.value) != 6) {
        return -EINVAL;
    }
    class = sim_fault_parse(name);
    if (class < 0 || fault.a >= SIM_NODES_MAX || schedule->count >= SIM_FAULTS_MAX) {
        return -EINVAL;
    }
    fault.class = (enum sim_fault_class) class;
    schedule->classes |= 1u << class;
    sim_schedule_add(schedule, fault);
    return 0;
}

static int read_line(struct sim_schedule *schedule, const char *line)
{
    uint64_t number = 0;
    char word[32];
    int used = 0;

    if (sscanf(line, " %31s%n", word, &used) != 1 || word[0] == '#') {
        return 0;
    }
    if (strcmp(word, "fault") == 0) {
        return read_fault(schedule, line + used);
    }
    if (strcmp(word, "mutate") == 0) {
        char name[64];
        int mutation = sscanf(line + used, " %63s", name) == 1 ? sim_mutation_parse(name) : -1;

        schedule->mutation = mutation > 0 ? (uint32_t)mutation : 0;
        return mutation > 0 ? 0 : -EINVAL;
    }
    if (sscanf(line + used, "%" SCNu64, &number) != 1) {
        return -EINVAL;
    }
    if (strcmp(word, "seed") == 0) {
        schedule->seed = number;
    } else if (strcmp(word, "nodes") == 0 && number >= 1 && number <= SIM_NODES_MAX) {
        schedule->nodes = (uint32_t)number;
    } else if (strcmp(word, "spares") == 0 && number <= SIM_NODES_MAX) {
        schedule->spares = (uint32_t)number;
    } else if (strcmp(word, "faults-us") == 0) {
        schedule->faults_us = number;
    } else if (strcmp(word, "end-us") == 0) {
        schedule->end_us = number;
    } else {
        return -EINVAL;
    }
    return 0;
}

int sim_schedule_read(struct sim_schedule *schedule, FILE *in, struct shl_err *err)
{
    char line[512];
    unsigned number = 0;

    *schedule = (struct sim_schedule){0};
    while (fgets(line, sizeof(line), in)) {
        number++;
        if (read_line(schedule, line) < 0) {
            sim_schedule_release(schedule);
            return shl_err_set(err, -EINVAL, "line %u of the schedule is not understood", number);
        }
    }
    if (schedule->nodes == 0 || schedule->nodes + schedule->spares > SIM_NODES_MAX ||
        schedule->end_us == 0 || schedule->faults_us > schedule->end_us) {
        sim_schedule_release(schedule);
        return shl_err_set(err, -EINVAL,
                           "the schedule needs seed, nodes, faults-us and end-us in that order of "
                           "size");
    }
    return 0;
}
