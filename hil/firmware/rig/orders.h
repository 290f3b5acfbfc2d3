/* What a person or a test may order: the table of hil/node_orders.py, carried out on this node. */
#ifndef WARDEN_ORDERS_H
#define WARDEN_ORDERS_H

#include "text.h"

/* Carries out one packet; a `control_answer` whose owner is a `host`. */
void orders_answer(void *owner, const char *packet, size_t length, text *answer);

#endif
