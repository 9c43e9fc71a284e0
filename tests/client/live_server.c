/* The API server of tests/node/api with the real agent, for tests in other languages: prints
 * {"url", "key", "id"} of itself and its sandbox, and ends when its stdin does. Commands run as the
 * current user; programs of the test are looked for in the home first. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#include "tests/node/api/fixture.h"

static void on_alloc(uv_handle_t *handle, size_t size, uv_buf_t *buf)
{
    static char bytes[256];

    (void)handle;
    (void)size;
    *buf = uv_buf_init(bytes, sizeof(bytes));
}

static void on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf)
{
    (void)buf;
    if (n < 0) {
        uv_close((uv_handle_t *)stream, NULL);
        uv_stop(stream->loop);
    }
}

static void test_serve(void **state)
{
    uv_pipe_t input;

    (void)state;
    uv_pipe_init(&fix->loop, &input, 0);
    assert_int_equal(uv_pipe_open(&input, 0), 0);
    assert_int_equal(uv_read_start((uv_stream_t *)&input, on_alloc, on_read), 0);
    (void)printf("{\"url\": \"http://127.0.0.1:%u\", \"key\": \"%s\", \"id\": \"%s\"}\n", fix->port,
                 fix->key, fix->id);
    (void)fflush(stdout);
    (void)uv_run(&fix->loop, UV_RUN_DEFAULT);
    (void)uv_run(&fix->loop, UV_RUN_NOWAIT); /* the close */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_serve, fixture_setup, fixture_teardown)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
