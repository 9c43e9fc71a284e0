/* What every cmocka program here includes. */
#ifndef SHL_TESTS_VMM_TEST_H
#define SHL_TESTS_VMM_TEST_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#endif /* SHL_TESTS_VMM_TEST_H */
