/* The rig's JSON behind standard input: a line of hexadecimal bytes in, one line out: `refused`, or the members as
 * KEY=KIND:VALUE, keys and strings in hexadecimal. A key that is not whole is a `?`. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "rig/json.h"

#define LINE_MOST (1U << 16)

static char line[LINE_MOST];

static void print_hex(const json_string *string)
{
    size_t i;

    for (i = 0; i < string->length; i++)
        printf("%02x", (unsigned)(unsigned char)string->bytes[i]);
}

static void tell(const json_object *object)
{
    size_t i;

    for (i = 0; i < object->count; i++) {
        const json_member *at = &object->member[i];

        if (at->key.whole)
            print_hex(&at->key);
        else
            printf("?");
        if (at->kind == JSON_INTEGER)
            printf("=i:%" PRId64, at->integer);
        else if (at->kind == JSON_OTHER)
            printf("=o:");
        else {
            printf("=s:");
            print_hex(&at->string);
        }
        printf(" ");
    }
    printf(".\n");
}

int main(void)
{
    while (fgets(line, sizeof line, stdin) != NULL) {
        const size_t count = strspn(line, "0123456789abcdef") / 2;
        char *bytes = malloc(count > 0 ? count : 1);
        json_object object;
        size_t i;

        if (bytes == NULL)
            return 1;
        for (i = 0; i < count; i++) {
            char pair[3] = {line[2 * i], line[2 * i + 1], '\0'};

            bytes[i] = (char)strtoul(pair, NULL, 16);
        }
        if (json_parse(bytes, count, &object))
            tell(&object);
        else
            printf("refused\n");
        (void)fflush(stdout);
        free(bytes);
    }
    return 0;
}
