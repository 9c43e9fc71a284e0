/* msgpack on shl_buf: a writer that counts for you and a reader that distrusts.
 *
 * Writer: shl_mp_map / shl_mp_array open a container, every value written counts
 * itself, shl_mp_end closes. The first failure sticks in writer.error; check it
 * once at the end with shl_mp_done.
 *
 * Reader: shl_mp_parse walks the bytes first (depth, counts against the bytes
 * that are really there, no trailing garbage) and only then lets msgpack-c build
 * objects, because msgpack-c allocates what a header claims. Getters look a key up
 * in a map and check the type.
 */
#ifndef SHL_BASE_MP_H
#define SHL_BASE_MP_H

#include <stdbool.h>
#include <stdint.h>

#include <msgpack.h>

#include "base/buf.h"

#define SHL_MP_DEPTH_MAX   16
#define SHL_MP_OBJECTS_MAX 65536

struct shl_mp_writer {
    struct shl_buf *buf; /* borrowed */
    msgpack_packer packer;
    int error; /* first failure, 0 while fine */
    unsigned depth;
    struct {
        size_t header_at; /* offset from the first byte this writer wrote */
        uint32_t items;
        bool is_map;
    } open[SHL_MP_DEPTH_MAX];
    size_t base_len; /* bytes in buf when the writer began */
};

void shl_mp_writer_init(struct shl_mp_writer *w, struct shl_buf *buf);

/* Containers. A map's keys and values are written as alternating values, or with _kv. */
void shl_mp_map(struct shl_mp_writer *w);
void shl_mp_array(struct shl_mp_writer *w);
void shl_mp_end(struct shl_mp_writer *w);

void shl_mp_str(struct shl_mp_writer *w, const char *text); /* NULL writes nil */
void shl_mp_strn(struct shl_mp_writer *w, const char *text, size_t len);
void shl_mp_bin(struct shl_mp_writer *w, const void *data, size_t len);
void shl_mp_uint(struct shl_mp_writer *w, uint64_t value);
void shl_mp_int(struct shl_mp_writer *w, int64_t value);
void shl_mp_bool(struct shl_mp_writer *w, bool value);
void shl_mp_nil(struct shl_mp_writer *w);

void shl_mp_kv_str(struct shl_mp_writer *w, const char *key, const char *text);
void shl_mp_kv_bin(struct shl_mp_writer *w, const char *key, const void *data, size_t len);
void shl_mp_kv_uint(struct shl_mp_writer *w, const char *key, uint64_t value);
void shl_mp_kv_int(struct shl_mp_writer *w, const char *key, int64_t value);
void shl_mp_kv_bool(struct shl_mp_writer *w, const char *key, bool value);
void shl_mp_kv_map(struct shl_mp_writer *w, const char *key);   /* close with shl_mp_end */
void shl_mp_kv_array(struct shl_mp_writer *w, const char *key); /* close with shl_mp_end */

/* 0 when everything was written and closed, else the first error. */
SHL_MUST_CHECK int shl_mp_done(struct shl_mp_writer *w);

struct shl_mp_doc {
    msgpack_unpacked unpacked; /* the memory of every object below */
    const msgpack_object *root;
};

/* One value filling @bytes exactly, or with @ret_used the first value in them.
 * Returns 0, SHL_EPROTO (malformed, too deep, trailing bytes), SHL_ELIMIT or -ENOMEM.
 * On success shl_mp_release is due; @bytes must outlive the document. */
SHL_MUST_CHECK int shl_mp_parse(struct shl_mp_doc *doc, struct shl_bytes bytes);
SHL_MUST_CHECK int shl_mp_parse_first(struct shl_mp_doc *doc,
                                      struct shl_bytes bytes,
                                      size_t *ret_used);
void shl_mp_release(struct shl_mp_doc *doc);

/* Value of @key in @map, NULL when absent, nil, or @map is no map. */
const msgpack_object *shl_mp_find(const msgpack_object *map, const char *key);

/* Getters: 0, SHL_ENOTFOUND when absent, SHL_EPROTO when of another type or range.
 * Strings are borrowed from the document and not terminated; _dup copies. A string
 * with an embedded zero byte is SHL_EPROTO in _dup and _cpy. */
SHL_MUST_CHECK int shl_mp_get_str(const msgpack_object *map,
                                  const char *key,
                                  struct shl_bytes *ret);
SHL_MUST_CHECK int shl_mp_get_dup(const msgpack_object *map, const char *key, char **ret);
SHL_MUST_CHECK int shl_mp_get_cpy(const msgpack_object *map,
                                  const char *key,
                                  char *dst,
                                  size_t size);
SHL_MUST_CHECK int shl_mp_get_bin(const msgpack_object *map,
                                  const char *key,
                                  struct shl_bytes *ret);
SHL_MUST_CHECK int shl_mp_get_uint(const msgpack_object *map,
                                   const char *key,
                                   uint64_t max,
                                   uint64_t *ret);
SHL_MUST_CHECK int shl_mp_get_int(const msgpack_object *map, const char *key, int64_t *ret);
SHL_MUST_CHECK int shl_mp_get_bool(const msgpack_object *map, const char *key, bool *ret);

/* Object as a heap string: 0, SHL_EPROTO or -ENOMEM. */
SHL_MUST_CHECK int shl_mp_obj_dup(const msgpack_object *obj, char **ret);

#endif /* SHL_BASE_MP_H */
