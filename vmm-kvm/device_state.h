/* State of devices as bytes, and back into fresh device models. What comes back is
 * checked like what a guest writes: features, status, and the queue rules R1 to R6
 * again (vmm_queue_activate). Pure; fuzzed.
 *
 * Two halves per device: the transport (registers and queues, the same for all) and what
 * the model adds (vmm_blk_save, vmm_balloon_save, ...; here those of console and net). */
#ifndef SHL_VMM_DEVICE_STATE_H
#define SHL_VMM_DEVICE_STATE_H

#include "base/buf.h"
#include "vmm-kvm/console.h"
#include "vmm-kvm/net.h"
#include "vmm-kvm/serial.h"
#include "vmm-kvm/state.h"

/* 0 or SHL_ELIMIT, -ENOMEM. */
SHL_MUST_CHECK int vmm_transport_save(const struct vmm_virtio *dev, struct shl_buf *buf);

/* Into the initialised @dev, whose memory is that of the snapshot. Calls the model's
 * activate. SHL_ECORRUPT, or SHL_EINCOMPATIBLE when this machine cannot offer what the
 * driver uses. */
SHL_MUST_CHECK int vmm_transport_restore(struct vmm_virtio *dev,
                                         struct shl_bytes bytes,
                                         struct shl_err *err);

/* The host side of the port is not part of it: after a restore nobody is connected, and
 * a guest that knew a client is told that it left. */
SHL_MUST_CHECK int vmm_console_save(const struct vmm_console *console, struct shl_buf *buf);
SHL_MUST_CHECK int vmm_console_restore(struct vmm_console *console, struct shl_bytes bytes);

/* A restored port before the guest runs: the close is told, and what was on its way to
 * the old client is dropped, so that it cannot reach the next one. As notify. */
SHL_MUST_CHECK int vmm_console_wake(struct vmm_console *console);

void vmm_serial_save(const struct vmm_serial *serial, uint8_t raw[VMM_SERIAL_BYTES]);
SHL_MUST_CHECK int vmm_serial_restore(struct vmm_serial *serial,
                                      const uint8_t raw[VMM_SERIAL_BYTES]);

#endif /* SHL_VMM_DEVICE_STATE_H */
