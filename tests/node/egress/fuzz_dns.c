/* Answers of a name server and questions of guests. */
#include <assert.h>
#include <string.h>

#include "node/egress/dns.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct egress_dns_answer answer;
    char host[EGRESS_HOST_SIZE];
    uint8_t copy[4096];
    uint16_t id, type;

    if (size < 2 || size > sizeof(copy)) {
        return 0;
    }
    id = (uint16_t)(data[0] << 8 | data[1]);
    if (egress_dns_read(shl_bytes_of(data, size), id, "a.example", EGRESS_DNS_A, &answer) == 0) {
        assert(answer.count > 0 && answer.count <= EGRESS_DNS_ADDRESSES_MAX);
    }
    (void)egress_dns_read(shl_bytes_of(data, size), id, "a.example", EGRESS_DNS_AAAA, &answer);
    if (egress_dns_question(shl_bytes_of(data, size), host, &type) == 0) {
        assert(strlen(host) <= EGRESS_HOST_MAX);
        memcpy(copy, data, size);
        assert(egress_dns_refuse(copy, size) <= size);
        assert(egress_dns_question(shl_bytes_of(copy, size), host, &type) < 0);
    }
    return 0;
}
