/* The first bytes of a TLS client, in any pieces. */
#include <assert.h>
#include <string.h>

#include "node/egress/hello.h"
#include "node/egress/host.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct egress_hello hello, part;
    enum egress_hello_result whole = egress_hello_parse(shl_bytes_of(data, size), &hello);

    assert(whole != EGRESS_HELLO_MORE || size <= EGRESS_HELLO_WIRE_MAX);
    if (whole == EGRESS_HELLO_OK) {
        char host[EGRESS_HOST_SIZE];
        uint16_t port;

        assert(strlen(hello.server_name) <= EGRESS_HOST_MAX);
        (void)egress_host_parse(host, &port, hello.server_name, strlen(hello.server_name));
    }
    /* less of it is never another verdict than "more" or the same */
    if (size > 0) {
        enum egress_hello_result less = egress_hello_parse(shl_bytes_of(data, size / 2), &part);

        assert(less == EGRESS_HELLO_MORE || less == whole);
        assert(less != EGRESS_HELLO_OK || strcmp(part.server_name, hello.server_name) == 0);
    }
    return 0;
}
