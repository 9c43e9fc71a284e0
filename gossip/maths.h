/* The formulas of SWIM and Lifeguard, without any state. */
#ifndef SHL_GOSSIP_MATHS_H
#define SHL_GOSSIP_MATHS_H

#include <stdint.h>

#include "gossip/gossip.h"

#define GOSSIP_HEALTH_MAX 7
#define GOSSIP_SENDS_MAX  60 /* of one rumour, whatever the settings say */

/* How often one rumour is sent by one node among @nodes: mult * ceil(log10(nodes + 1)), not
 * below the floor: in small clusters the logarithm leaves too few sends to survive loss. */
uint32_t gossip_sends_limit(const struct gossip_timing *timing, uint32_t nodes);

/* Shortest time from suspicion to death among @nodes. */
uint64_t gossip_suspicion_least_ms(const struct gossip_timing *timing, uint32_t nodes);

/* Confirmations (accusers beyond the first) that bring a suspicion to its shortest time:
 * suspicion_mult - 2; 0 when there are too few nodes to give them. */
uint32_t gossip_suspicion_confirmers(const struct gossip_timing *timing, uint32_t nodes);

/* Time from suspicion to death with @confirmed confirmations. */
uint64_t gossip_suspicion_ms(const struct gossip_timing *timing,
                             uint32_t nodes,
                             uint32_t confirmed);

/* Same when enough nodes saw the connections to the suspect break. */
uint64_t gossip_broken_ms(const struct gossip_timing *timing, uint32_t nodes);

/* Time between two full comparisons among @nodes. */
uint64_t gossip_sync_ms(const struct gossip_timing *timing, uint32_t nodes);

/* @score after @elapsed_ms. */
double gossip_decayed(double score, uint64_t elapsed_ms, uint64_t half_life_ms);

/* Local health (0 good .. GOSSIP_HEALTH_MAX bad) after a change. */
uint32_t gossip_health_after(uint32_t health, int delta);

#endif /* SHL_GOSSIP_MATHS_H */
