/* 8250/16550A serial port, output side (National Semiconductor PC16550D).
 *
 * The whole register file is modelled so that the guest's driver finds a 16550A;
 * input never comes, the transmitter is always empty. Interrupts: transmitter empty
 * only, as a pulse when it becomes enabled or a byte was taken.
 * Plain state; the owner serialises.
 */
#ifndef SHL_VMM_SERIAL_H
#define SHL_VMM_SERIAL_H

#include <stdbool.h>
#include <stdint.h>

#include "vmm-kvm/virtio.h"

struct vmm_serial {
    uint8_t ier;
    uint8_t fcr;
    uint8_t lcr;
    uint8_t mcr;
    uint8_t scr;
    uint8_t dll;
    uint8_t dlm;
    bool thr_pending; /* transmitter-empty interrupt not yet seen by the driver */
    bool loop_full;   /* a byte sent in loopback mode waits to be read */
    uint8_t loop_byte;

    struct vmm_irq irq;
    void (*put)(void *ctx, uint8_t byte); /* one byte of output */
    void *put_ctx;
};

void vmm_serial_init(struct vmm_serial *serial,
                     struct vmm_irq irq,
                     void (*put)(void *ctx, uint8_t byte),
                     void *put_ctx);

/* @reg: 0..7, the port's offset. */
uint8_t vmm_serial_read(struct vmm_serial *serial, unsigned reg);
void vmm_serial_write(struct vmm_serial *serial, unsigned reg, uint8_t value);

/* After a restore: a driver that waits for the transmitter gets its interrupt again,
 * since the one that was under way is lost. */
void vmm_serial_resume(struct vmm_serial *serial);

#endif /* SHL_VMM_SERIAL_H */
