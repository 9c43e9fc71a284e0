#include "vmm-kvm/iov.h"

#include <assert.h>
#include <stdint.h>

#include "base/attr.h"

unsigned vmm_iov_slice(struct iovec *dst,
                       const struct iovec *src,
                       unsigned src_count,
                       size_t offset,
                       size_t len)
{
    unsigned count = 0;
    unsigned i;

    for (i = 0; i < src_count && len > 0; i++) {
        size_t step;

        if (offset >= src[i].iov_len) {
            offset -= src[i].iov_len;
            continue;
        }
        step = SHL_MIN(src[i].iov_len - offset, len);
        dst[count++] = (struct iovec){(uint8_t *)src[i].iov_base + offset, step};
        len -= step;
        offset = 0;
    }
    assert(len == 0);
    return count;
}

unsigned vmm_iov_advance(struct iovec **iov, unsigned count, size_t done)
{
    while (count > 0 && done >= (*iov)->iov_len) {
        done -= (*iov)->iov_len;
        (*iov)++;
        count--;
    }
    if (count > 0) {
        (*iov)->iov_base = (uint8_t *)(*iov)->iov_base + done;
        (*iov)->iov_len -= done;
    }
    return count;
}
