#include "checkpoint/image.h"
#include "vmm-kvm/layer.h"
#include "vmm-kvm/sealed.h"

int ckpt_check_memory(int fd, struct shl_err *err)
{
    struct vmm_layer layer;
    int rc = vmm_layer_open(&layer, fd, err);

    if (rc == 0) {
        vmm_layer_release(&layer);
    }
    return rc;
}

int ckpt_check_disk(int fd, struct shl_err *err)
{
    struct vmm_sealed sealed;
    int rc = vmm_sealed_open(&sealed, fd, err);

    if (rc == 0) {
        vmm_sealed_release(&sealed);
    }
    return rc;
}
