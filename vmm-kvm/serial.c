#include "vmm-kvm/serial.h"

#include <string.h>

#define REG_DATA 0u /* RBR, THR, or DLL with DLAB */
#define REG_IER  1u /* or DLM with DLAB */
#define REG_IIR  2u /* FCR when written */
#define REG_LCR  3u
#define REG_MCR  4u
#define REG_LSR  5u
#define REG_MSR  6u
#define REG_SCR  7u

#define IER_RDI    0x01u
#define IER_THRI   0x02u
#define IIR_NONE   0x01u
#define IIR_THRI   0x02u
#define IIR_RDI    0x04u
#define IIR_FIFO   0xc0u
#define FCR_FIFO   0x01u
#define LCR_DLAB   0x80u
#define MCR_LOOP   0x10u
#define LSR_READY  0x01u
#define LSR_EMPTY  0x60u /* holding register and shifter */
#define MSR_ONLINE 0xb0u /* CD, DSR, CTS */

void vmm_serial_init(struct vmm_serial *serial,
                     struct vmm_irq irq,
                     void (*put)(void *ctx, uint8_t byte),
                     void *put_ctx)
{
    memset(serial, 0, sizeof(*serial));
    serial->dll = 12; /* 9600 baud, the reset value of firmware */
    serial->irq = irq;
    serial->put = put;
    serial->put_ctx = put_ctx;
}

static void raise_empty(struct vmm_serial *serial)
{
    if (serial->ier & IER_THRI) {
        serial->thr_pending = true;
        if (serial->irq.raise) {
            serial->irq.raise(serial->irq.ctx);
        }
    }
}

void vmm_serial_resume(struct vmm_serial *serial)
{
    raise_empty(serial);
}

static uint8_t read_iir(struct vmm_serial *serial)
{
    uint8_t fifo = serial->fcr & FCR_FIFO ? IIR_FIFO : 0;

    if (serial->loop_full && (serial->ier & IER_RDI)) {
        return IIR_RDI | fifo;
    }
    if (serial->thr_pending && (serial->ier & IER_THRI)) {
        serial->thr_pending = false; /* reading IIR acknowledges it */
        return IIR_THRI | fifo;
    }
    return IIR_NONE | fifo;
}

/* In loopback the modem inputs follow the outputs: how the driver probes for a UART. */
static uint8_t read_msr(const struct vmm_serial *serial)
{
    uint8_t mcr = serial->mcr;

    if (!(mcr & MCR_LOOP)) {
        return MSR_ONLINE;
    }
    return (uint8_t)((mcr & 0x0c) << 4 | (mcr & 0x02) << 3 | (mcr & 0x01) << 5);
}

uint8_t vmm_serial_read(struct vmm_serial *serial, unsigned reg)
{
    bool dlab = serial->lcr & LCR_DLAB;

    switch (reg) {
    case REG_DATA:
        if (dlab) {
            return serial->dll;
        }
        serial->loop_full = false;
        return serial->loop_byte;
    case REG_IER:
        return dlab ? serial->dlm : serial->ier;
    case REG_IIR:
        return read_iir(serial);
    case REG_LCR:
        return serial->lcr;
    case REG_MCR:
        return serial->mcr;
    case REG_LSR:
        return (uint8_t)(LSR_EMPTY | (serial->loop_full ? LSR_READY : 0u));
    case REG_MSR:
        return read_msr(serial);
    case REG_SCR:
        return serial->scr;
    default:
        return 0xff;
    }
}

static void write_data(struct vmm_serial *serial, uint8_t value)
{
    if (serial->mcr & MCR_LOOP) {
        serial->loop_byte = value;
        serial->loop_full = true;
        return;
    }
    serial->put(serial->put_ctx, value);
    raise_empty(serial);
}

void vmm_serial_write(struct vmm_serial *serial, unsigned reg, uint8_t value)
{
    bool dlab = serial->lcr & LCR_DLAB;

    switch (reg) {
    case REG_DATA:
        if (dlab) {
            serial->dll = value;
        } else {
            write_data(serial, value);
        }
        break;
    case REG_IER:
        if (dlab) {
            serial->dlm = value;
        } else {
            bool newly = (value & IER_THRI) && !(serial->ier & IER_THRI);

            serial->ier = value & 0x0f;
            if (newly) {
                raise_empty(serial);
            }
        }
        break;
    case REG_IIR:
        serial->fcr = value & (uint8_t)~0x06u; /* the reset bits clear themselves */
        break;
    case REG_LCR:
        serial->lcr = value;
        break;
    case REG_MCR:
        serial->mcr = value & 0x1f;
        break;
    case REG_SCR:
        serial->scr = value;
        break;
    default: /* LSR and MSR are read-only */
        break;
    }
}
