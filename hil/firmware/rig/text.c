#include "text.h"

#include <stdarg.h>
#include <stdio.h>

void text_init(text *self, char *data, size_t size)
{
    self->data = data;
    self->size = size;
    self->length = 0;
    self->cut = false;
    data[0] = '\0';
}

void text_add(text *self, const char *format, ...)
{
    const size_t room = self->size - self->length;
    va_list arguments;
    int wanted;

    va_start(arguments, format);
    wanted = vsnprintf(self->data + self->length, room, format, arguments);
    va_end(arguments);
    if (wanted < 0 || (size_t)wanted >= room) {
        self->data[self->length] = '\0';
        self->cut = true;
    } else {
        self->length += (size_t)wanted;
    }
}

void text_quote(text *self, const char *string)
{
    text_add(self, "\"");
    for (; *string != '\0'; string++) {
        if (*string == '"' || *string == '\\')
            text_add(self, "\\%c", *string);
        else if ((unsigned char)*string < ' ')
            text_add(self, "\\u%04x", (unsigned)*string);
        else
            text_add(self, "%c", *string);
    }
    text_add(self, "\"");
}
