#include "vmm-kvm/aml.h"

#include <assert.h>
#include <string.h>

#include "base/err.h"

/* Opcodes of 20.3. */
#define OP_ZERO    0x00u
#define OP_ONE     0x01u
#define OP_NAME    0x08u
#define OP_BYTE    0x0au
#define OP_WORD    0x0bu
#define OP_DWORD   0x0cu
#define OP_STRING  0x0du
#define OP_SCOPE   0x10u
#define OP_BUFFER  0x11u
#define OP_PACKAGE 0x12u
#define OP_EXT     0x5bu
#define OP_DEVICE  0x82u

/* Resource descriptors of 6.4. */
#define RES_IO                           0x47u
#define RES_MEMORY32                     0x86u
#define RES_INTERRUPT                    0x89u
#define RES_END                          0x79u
#define IRQ_CONSUMER_EDGE_HIGH_EXCLUSIVE 0x03u

void vmm_aml_init(struct vmm_aml *aml, struct shl_buf *out)
{
    memset(aml, 0, sizeof(*aml));
    aml->out = out;
}

static void put(struct vmm_aml *aml, const void *data, size_t len)
{
    if (aml->error == 0) {
        aml->error = shl_buf_append(aml->out, data, len);
    }
}

static void put_byte(struct vmm_aml *aml, uint8_t byte)
{
    put(aml, &byte, 1);
}

static void put_name(struct vmm_aml *aml, const char *name)
{
    assert(strlen(name) == 4u + (name[0] == '\\'));
    put(aml, name, strlen(name));
}

static void begin(struct vmm_aml *aml)
{
    assert(aml->depth < VMM_AML_DEPTH_MAX);
    aml->open_at[aml->depth++] = shl_buf_len(aml->out);
}

/* PkgLength (20.2.4) counts itself: 1 byte up to 63, else 4 + 8 bits in two bytes. */
void vmm_aml_end(struct vmm_aml *aml)
{
    size_t at = aml->open_at[--aml->depth];
    size_t len = shl_buf_len(aml->out) - at;
    uint8_t prefix[2];
    size_t prefix_len;
    uint8_t *start;

    if (len + 1 <= 63) {
        prefix_len = 1;
        prefix[0] = (uint8_t)(len + 1);
    } else {
        prefix_len = 2;
        prefix[0] = (uint8_t)(0x40u | ((len + 2) & 0x0f));
        prefix[1] = (uint8_t)((len + 2) >> 4);
    }
    if (aml->error == 0 && len + 2 > 0xfff) {
        aml->error = SHL_ELIMIT;
    }
    put(aml, prefix, prefix_len); /* makes room at the end, then everything moves up */
    if (aml->error == 0) {
        start = shl_buf_data(aml->out) + at;
        memmove(start + prefix_len, start, len);
        memcpy(start, prefix, prefix_len);
    }
}

void vmm_aml_scope(struct vmm_aml *aml, const char *name)
{
    put_byte(aml, OP_SCOPE);
    begin(aml);
    put_name(aml, name);
}

void vmm_aml_device(struct vmm_aml *aml, const char *name)
{
    put_byte(aml, OP_EXT);
    put_byte(aml, OP_DEVICE);
    begin(aml);
    put_name(aml, name);
}

void vmm_aml_package(struct vmm_aml *aml, uint8_t count)
{
    put_byte(aml, OP_PACKAGE);
    begin(aml);
    put_byte(aml, count);
}

void vmm_aml_name(struct vmm_aml *aml, const char *name)
{
    put_byte(aml, OP_NAME);
    put_name(aml, name);
}

void vmm_aml_integer(struct vmm_aml *aml, uint32_t value)
{
    uint8_t raw[4];

    shl_put_le32(raw, value);
    if (value <= 1) {
        put_byte(aml, value ? OP_ONE : OP_ZERO);
    } else if (value <= UINT8_MAX) {
        put_byte(aml, OP_BYTE);
        put(aml, raw, 1);
    } else if (value <= UINT16_MAX) {
        put_byte(aml, OP_WORD);
        put(aml, raw, 2);
    } else {
        put_byte(aml, OP_DWORD);
        put(aml, raw, 4);
    }
}

void vmm_aml_string(struct vmm_aml *aml, const char *text)
{
    put_byte(aml, OP_STRING);
    put(aml, text, strlen(text) + 1);
}

static uint32_t hex_digit(char c)
{
    return c <= '9' ? (uint32_t)(c - '0') : (uint32_t)(c - 'A' + 10);
}

/* 19.3.4: three letters in 5 bits each, four hexadecimal digits, big-endian. */
void vmm_aml_eisa_id(struct vmm_aml *aml, const char *id)
{
    uint8_t raw[4];

    assert(strlen(id) == 7);
    raw[0] = (uint8_t)((id[0] - '@') << 2 | (id[1] - '@') >> 3);
    raw[1] = (uint8_t)((id[1] - '@') << 5 | (id[2] - '@'));
    raw[2] = (uint8_t)(hex_digit(id[3]) << 4 | hex_digit(id[4]));
    raw[3] = (uint8_t)(hex_digit(id[5]) << 4 | hex_digit(id[6]));
    put_byte(aml, OP_DWORD);
    put(aml, raw, sizeof(raw));
}

static void put_le32(struct vmm_aml *aml, uint32_t value)
{
    uint8_t raw[4];

    shl_put_le32(raw, value);
    put(aml, raw, sizeof(raw));
}

void vmm_aml_resource_template(struct vmm_aml *aml, const struct vmm_aml_resources *resources)
{
    uint8_t bytes = 9 + 2; /* interrupt and end tag */

    bytes = (uint8_t)(bytes + (resources->memory_bytes ? 12 : 0));
    bytes = (uint8_t)(bytes + (resources->port_count ? 8 : 0));
    put_byte(aml, OP_BUFFER);
    begin(aml);
    vmm_aml_integer(aml, bytes);
    if (resources->memory_bytes) {
        put(aml, (const uint8_t[]){RES_MEMORY32, 9, 0, 1 /* writable */}, 4);
        put_le32(aml, resources->memory_base);
        put_le32(aml, resources->memory_bytes);
    }
    if (resources->port_count) {
        uint8_t low = (uint8_t)resources->port_base, high = (uint8_t)(resources->port_base >> 8);

        put(aml,
            (const uint8_t[]){RES_IO, 1 /* 16-bit decode */, low, high, low, high, 1,
                              resources->port_count},
            8);
    }
    put(aml, (const uint8_t[]){RES_INTERRUPT, 6, 0, IRQ_CONSUMER_EDGE_HIGH_EXCLUSIVE, 1}, 5);
    put_le32(aml, resources->interrupt);
    put(aml, (const uint8_t[]){RES_END, 0}, 2); /* checksum 0: not checked */
    vmm_aml_end(aml);
}
