/* libmemcached against the server at argv[1]:argv[2]. */
#include <libmemcached/memcached.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static memcached_st *m;

static void fail(const char *what, memcached_return_t rc) {
    printf("%s: %s\n", what, memcached_strerror(m, rc));
    exit(1);
}

static void want(const char *what, memcached_return_t rc, memcached_return_t expected) {
    if (rc != expected) fail(what, rc);
}

static void want_value(const char *key, const char *value, size_t length, uint32_t flags) {
    size_t n;
    uint32_t f;
    memcached_return_t rc;
    char *got = memcached_get(m, key, strlen(key), &n, &f, &rc);
    want(key, rc, MEMCACHED_SUCCESS);
    if (n != length || memcmp(got ? got : "", value, n) != 0 || f != flags) {
        printf("%s: another value, of %zu bytes with flags %u\n", key, n, f);
        exit(1);
    }
    free(got);
}

static memcached_return_t set(const char *key, const char *value, size_t n, time_t expiry, uint32_t flags) {
    return memcached_set(m, key, strlen(key), value, n, expiry, flags);
}

int main(int argc, char **argv) {
    if (argc != 3) return 2;
    m = memcached_create(NULL);
    memcached_behavior_set(m, MEMCACHED_BEHAVIOR_SUPPORT_CAS, 1);
    memcached_behavior_set(m, MEMCACHED_BEHAVIOR_NO_BLOCK, 0);
    want("server", memcached_server_add(m, argv[1], (in_port_t)atoi(argv[2])), MEMCACHED_SUCCESS);
    want("flush", memcached_flush(m, 0), MEMCACHED_SUCCESS);

    char binary[256];
    for (int i = 0; i < 256; i++) binary[i] = (char)i;
    static char large[1000000];
    for (size_t i = 0; i < sizeof large; i++) large[i] = (char)(i * 7);

    want("set", set("k", "value", 5, 0, 42), MEMCACHED_SUCCESS);
    want_value("k", "value", 5, 42);
    want("set binary", set("bin", binary, sizeof binary, 0, 0xffffffffu), MEMCACHED_SUCCESS);
    want_value("bin", binary, sizeof binary, 0xffffffffu);
    want("set large", set("large", large, sizeof large, 0, 0), MEMCACHED_SUCCESS);
    want_value("large", large, sizeof large, 0);

    size_t n;
    uint32_t f;
    memcached_return_t rc;
    if (memcached_get(m, "none", 4, &n, &f, &rc) != NULL || rc != MEMCACHED_NOTFOUND) fail("get of nothing", rc);

    want("add", memcached_add(m, "k", 1, "x", 1, 0, 0), MEMCACHED_NOTSTORED);
    want("add new", memcached_add(m, "new", 3, "y", 1, 0, 3), MEMCACHED_SUCCESS);
    want("append", memcached_append(m, "new", 3, "z", 1, 0, 0), MEMCACHED_SUCCESS);
    want("prepend", memcached_prepend(m, "new", 3, "x", 1, 0, 0), MEMCACHED_SUCCESS);
    want_value("new", "xyz", 3, 3);
    want("replace", memcached_replace(m, "new", 3, "r", 1, 0, 0), MEMCACHED_SUCCESS);
    want("replace nothing", memcached_replace(m, "none", 4, "r", 1, 0, 0), MEMCACHED_NOTSTORED);

    const char *keys[] = {"k", "none", "new", "bin"};
    size_t lengths[] = {1, 4, 3, 3};
    want("mget", memcached_mget(m, keys, lengths, 4), MEMCACHED_SUCCESS);
    memcached_result_st *r;
    int found = 0;
    uint64_t unique = 0;
    while ((r = memcached_fetch_result(m, NULL, &rc)) != NULL) {
        found++;
        if (memcached_result_key_length(r) == 3 && memcmp(memcached_result_key_value(r), "new", 3) == 0)
            unique = memcached_result_cas(r);
        memcached_result_free(r);
    }
    if (found != 3 || unique == 0) {
        printf("mget found %d, unique %llu\n", found, (unsigned long long)unique);
        return 1;
    }
    want("cas", memcached_cas(m, "new", 3, "mine", 4, 0, 0, unique), MEMCACHED_SUCCESS);
    want("late cas", memcached_cas(m, "new", 3, "late", 4, 0, 0, unique), MEMCACHED_DATA_EXISTS);
    want_value("new", "mine", 4, 0);

    uint64_t number;
    want("set number", set("n", "10", 2, 0, 0), MEMCACHED_SUCCESS);
    want("increment", memcached_increment(m, "n", 1, 5, &number), MEMCACHED_SUCCESS);
    if (number != 15) return printf("increment made %llu\n", (unsigned long long)number), 1;
    want("decrement", memcached_decrement(m, "n", 1, 20, &number), MEMCACHED_SUCCESS);
    if (number != 0) return printf("decrement made %llu\n", (unsigned long long)number), 1;
    want("increment nothing", memcached_increment(m, "none", 4, 1, &number), MEMCACHED_NOTFOUND);

    want("touch", memcached_touch(m, "k", 1, 1000), MEMCACHED_SUCCESS);
    want("touch nothing", memcached_touch(m, "none", 4, 1000), MEMCACHED_NOTFOUND);
    want("exist", memcached_exist(m, "k", 1), MEMCACHED_SUCCESS);
    want("exist nothing", memcached_exist(m, "none", 4), MEMCACHED_NOTFOUND);
    want("delete", memcached_delete(m, "k", 1, 0), MEMCACHED_SUCCESS);
    want("delete again", memcached_delete(m, "k", 1, 0), MEMCACHED_NOTFOUND);

    want("set short", set("short", "x", 1, 1, 0), MEMCACHED_SUCCESS);
    time_t deadline = time(NULL) + 30;
    for (;;) {
        char *v = memcached_get(m, "short", 5, &n, &f, &rc);
        free(v);
        if (rc == MEMCACHED_NOTFOUND) break;
        want("get short", rc, MEMCACHED_SUCCESS);
        if (time(NULL) > deadline) return printf("a value for one second is still there\n"), 1;
        nanosleep(&(struct timespec){0, 50000000}, NULL);
    }
    memcached_free(m);
    puts("ok");
    return 0;
}
