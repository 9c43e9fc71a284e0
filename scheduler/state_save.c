/* Writing a snapshot, piece by piece. */
#include <string.h>

#include "scheduler/snapshot.h"
#include "scheduler/state_private.h"

void sched_save_begin(struct sched_save *save, const struct sched_state *state)
{
    *save = (struct sched_save){.state = state, .index = state->index};
}

static void write_begin(struct shl_mp_writer *w, const struct sched_save *save)
{
    shl_mp_map(w);
    shl_mp_kv_uint(w, "v", SCHED_STATE_VERSION);
    shl_mp_kv_uint(w, "n", save->piece);
}

static void write_head(struct shl_mp_writer *w, const struct sched_state *state)
{
    shl_mp_kv_uint(w, "index", state->index);
    shl_mp_kv_uint(w, "term", state->term);
    shl_mp_kv_uint(w, "time", state->time_ms);
    shl_mp_kv_bin(w, "cluster", state->cluster, sizeof(state->cluster));
    shl_mp_kv_uint(w, "feat", state->features);
    shl_mp_kv_uint(w, "lease", state->lease_ms);
}

/* Rows of one table until the piece is full; moves on to the next table at its end. */
static void write_rows(struct shl_mp_writer *w, struct sched_save *save)
{
    const struct sched_table *table = &save->state->tables[save->table];
    size_t start = shl_buf_len(w->buf);

    shl_mp_kv_uint(w, "table", save->table);
    shl_mp_kv_array(w, "rows");
    while (save->row < table->count && shl_buf_len(w->buf) - start < SCHED_PIECE_SOFT_BYTES) {
        shl_mp_map(w);
        sched_fields_write(w, &table->type->fields, table->rows[save->row]);
        shl_mp_end(w);
        save->row++;
    }
    shl_mp_end(w);
}

static bool is_left_out(const struct sched_save *save)
{
    return (save->state->mutations & SCHED_MUT_TOMBSTONE_LOST) &&
           (save->table == SCHED_TABLE_TOMBSTONES || save->table == SCHED_TABLE_REMOVED);
}

static void skip_finished_tables(struct sched_save *save)
{
    while (save->table < SCHED_TABLE_COUNT &&
           (save->row >= save->state->tables[save->table].count || is_left_out(save))) {
        save->table++;
        save->row = 0;
    }
}

static int write_piece(struct sched_save *save, struct shl_buf *buf)
{
    struct shl_mp_writer w;

    shl_mp_writer_init(&w, buf);
    write_begin(&w, save);
    skip_finished_tables(save);
    if (save->piece == 0) {
        write_head(&w, save->state);
    } else if (save->table < SCHED_TABLE_COUNT) {
        write_rows(&w, save);
    } else {
        shl_mp_kv_bool(&w, "end", true);
        shl_mp_kv_uint(&w, "digest", sched_state_digest(save->state));
        save->ended = true;
    }
    shl_mp_end(&w);
    return shl_mp_done(&w);
}

int sched_save_next(struct sched_save *save, struct shl_buf *buf)
{
    struct sched_save before = *save;
    struct shl_buf piece;
    uint8_t head[SCHED_PIECE_HEAD_BYTES];
    uint8_t *space;
    int rc;

    if (save->ended) {
        return 0;
    }
    if (save->state->index != save->index) {
        return SHL_EBADSTATE;
    }
    shl_buf_init(&piece, SCHED_PIECE_MAX - SCHED_PIECE_HEAD_BYTES);
    rc = write_piece(save, &piece);
    if (rc == 0) {
        rc = shl_buf_reserve(buf, sizeof(head) + shl_buf_len(&piece), &space);
    }
    if (rc == 0) {
        shl_put_le32(head, (uint32_t)shl_buf_len(&piece));
        memcpy(space, head, sizeof(head));
        memcpy(space + sizeof(head), shl_buf_data(&piece), shl_buf_len(&piece));
        shl_buf_commit(buf, sizeof(head) + shl_buf_len(&piece));
        save->piece++;
    } else {
        *save = before;
    }
    shl_buf_release(&piece);
    return rc < 0 ? rc : 1;
}
