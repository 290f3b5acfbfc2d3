/* Everything a test may ask about the node: the members of the answer to `state`. */
#ifndef WARDEN_STATE_H
#define WARDEN_STATE_H

#include "../host.h"

/* Adds `, "relay": …` and so on. */
void state_tell(const host *self, text *out);

#endif
