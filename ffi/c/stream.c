/* Reads the records of an index from an Arrow C stream: all of them, some of them, none. Also checks
 * the errors.
 *
 *     stream INDEX_DIR PERSIST_DIR COLLECTION
 */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "hnsw_toolbox.h"

#define CHECK(condition)                                                                \
    do {                                                                                \
        if (!(condition)) {                                                             \
            fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #condition);     \
            exit(1);                                                                    \
        }                                                                               \
    } while (0)

/* Reads at most this many batches. Returns their rows and adds up all components. */
static int64_t take(struct ArrowArrayStream *stream, int64_t batches, double *sum) {
    struct ArrowSchema schema;
    CHECK(stream->get_schema(stream, &schema) == 0);
    CHECK(strcmp(schema.format, "+s") == 0);
    int64_t columns = schema.n_children;
    int64_t vector = -1, width = 0;
    for (int64_t i = 0; i < columns; i++) {
        if (strcmp(schema.children[i]->name, "vector") == 0) {
            vector = i;
            CHECK(sscanf(schema.children[i]->format, "+w:%lld", (long long *)&width) == 1);
        }
    }
    CHECK(vector >= 0 && width > 0);
    schema.release(&schema);
    CHECK(schema.release == NULL);

    int64_t rows = 0;
    for (int64_t batch = 0; batch < batches; batch++) {
        struct ArrowArray array;
        CHECK(stream->get_next(stream, &array) == 0);
        if (array.release == NULL) {
            break;
        }
        CHECK(array.n_children == columns && array.length > 0);
        const struct ArrowArray *vectors = array.children[vector];
        const float *components = vectors->children[0]->buffers[1];
        for (int64_t i = 0; i < array.length * width; i++) {
            *sum += components[i];
        }
        rows += array.length;
        array.release(&array);
        CHECK(array.release == NULL);
    }
    CHECK(stream->get_last_error(stream) == NULL);
    return rows;
}

static int64_t run(const char *request, int64_t batches, double *sum) {
    struct ArrowArrayStream stream;
    CHECK(hnsw_toolbox_open_stream(request, &stream) == 0);
    CHECK(hnsw_toolbox_get_last_error() == NULL);
    int64_t rows = take(&stream, batches, sum);
    stream.release(&stream);
    CHECK(stream.release == NULL);
    return rows;
}

int main(int argc, char **argv) {
    CHECK(argc == 4);
    char request[8192];
    double whole = 0, some = 0;

    snprintf(request, sizeof request, "{\"index_dir\": \"%s\", \"batch_size\": 100}", argv[1]);
    int64_t rows = run(request, INT64_MAX, &whole);
    CHECK(run(request, 3, &some) == 300);
    CHECK(run(request, 0, &some) == 0);
    printf("%lld rows of the index\n", (long long)rows);

    /* The parts equal the whole. */
    double parts = 0;
    int64_t of_parts = 0;
    for (int part = 1; part <= 3; part++) {
        snprintf(request, sizeof request,
                 "{\"index_dir\": \"%s\", \"batch_size\": 100, \"part\": %d, \"parts\": 3}", argv[1], part);
        of_parts += run(request, INT64_MAX, &parts);
    }
    CHECK(of_parts == rows && parts - whole < 1e-3 && whole - parts < 1e-3);

    snprintf(request, sizeof request,
             "{\"persist_dir\": \"%s\", \"collections\": [\"%s\"], \"index_columns\": true}", argv[2], argv[3]);
    printf("%lld rows of the collection\n", (long long)run(request, INT64_MAX, &some));

    /* A refused request leaves nothing to release. */
    const char *refused[] = {
        NULL, "", "[]", "{}", "{\"index_dir\": \"/nowhere\"}", "{\"persist_dir\": \"/nowhere\"}",
        "{\"index_dir\": \"/nowhere\", \"output_path\": \"/nowhere/out\"}",
    };
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        struct ArrowArrayStream stream;
        memset(&stream, 0xAA, sizeof stream);
        int code = hnsw_toolbox_open_stream(refused[i], &stream);
        CHECK(code != 0 && (uint32_t)code == hnsw_toolbox_get_last_error_code());
        CHECK(stream.release == NULL && hnsw_toolbox_get_last_error() != NULL);
    }
    CHECK(hnsw_toolbox_open_stream("{}", NULL) == HNSW_TOOLBOX_CODE_INVALID_REQUEST);

    /* A token stops the stream even after it was freed. Batches already taken remain valid. */
    uint64_t token = hnsw_toolbox_token_new();
    snprintf(request, sizeof request, "{\"index_dir\": \"%s\", \"batch_size\": 1, \"token\": %llu}", argv[1],
             (unsigned long long)token);
    struct ArrowArrayStream stream;
    struct ArrowArray array, next;
    CHECK(hnsw_toolbox_open_stream(request, &stream) == 0);
    CHECK(stream.get_next(&stream, &array) == 0 && array.length == 1);
    CHECK(hnsw_toolbox_token_cancel(token) && hnsw_toolbox_token_free(token));
    int result;
    do {
        result = stream.get_next(&stream, &next);
        if (result == 0) {
            CHECK(next.release != NULL);
            next.release(&next);
        }
    } while (result == 0);
    CHECK(strstr(stream.get_last_error(&stream), "[E400]") != NULL);
    CHECK(hnsw_toolbox_get_last_error_code() == HNSW_TOOLBOX_CODE_CANCELLED);
    CHECK(strstr(hnsw_toolbox_get_last_error_json(), "\"name\":\"CANCELLED\"") != NULL);
    CHECK(stream.get_next(&stream, NULL) != 0 && stream.get_schema(&stream, NULL) != 0);
    CHECK(strstr(stream.get_last_error(&stream), "[E100]") != NULL);
    stream.release(&stream);
    CHECK(((const uint64_t *)array.children[0]->buffers[1])[0] == 0);
    array.release(&array);
    printf("%.6g is the sum of all components\n", whole);
    return 0;
}
