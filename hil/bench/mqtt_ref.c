/* The reference for "guardian's stop published -> permit withdrawn": libmosquitto, and no verification at all.
 *
 *     mqtt_ref HOST PORT CA CERT KEY TOPIC VERSION PERMIT PRIORITY
 *
 * TLS with a client certificate, QoS 1, TCP_NODELAY, the permit renewed every 10 ms. Any message on TOPIC withdraws
 * it; 20 ms later it runs again. VERSION: 5 or 3.1.1.
 */
#include "bench.h"

#include <mosquitto.h>
#include <poll.h>

#define STOPPED_NS (20 * NS_PER_MS)

static permit held;
static uint64_t stopped_ns;
static int subscribed;

static void on_message(struct mosquitto *client, void *self, const struct mosquitto_message *message)
{
    (void)client;
    (void)self;
    (void)message;
    withdraw(&held);
    stopped_ns = now_ns();
}

static void on_subscribe(struct mosquitto *client, void *self, int mid, int count, const int *granted)
{
    (void)client;
    (void)self;
    (void)mid;
    subscribed = count == 1 && granted[0] == 1;
}

static void must(int code)
{
    if (code == MOSQ_ERR_SUCCESS)
        return;
    (void)fprintf(stderr, "mqtt_ref: %s\n", mosquitto_strerror(code));
    exit(1);
}

static int asked_to_end(void)
{
    struct pollfd input = {STDIN_FILENO, POLLIN, 0};

    return poll(&input, 1, 0) > 0;
}

int main(int argc, char **argv)
{
    struct mosquitto *client;

    if (argc != 10)
        return 2;
    held = hold_permit(argv[8]);
    must(mosquitto_lib_init());
    client = mosquitto_new(NULL, true, NULL);
    if (client == NULL)
        die("mosquitto_new");
    must(mosquitto_int_option(client, MOSQ_OPT_PROTOCOL_VERSION,
        strcmp(argv[7], "5") == 0 ? MQTT_PROTOCOL_V5 : MQTT_PROTOCOL_V311));
    must(mosquitto_int_option(client, MOSQ_OPT_TCP_NODELAY, 1));
    must(mosquitto_tls_set(client, argv[3], NULL, argv[4], argv[5], NULL));
    mosquitto_message_callback_set(client, on_message);
    mosquitto_subscribe_callback_set(client, on_subscribe);
    must(mosquitto_connect(client, argv[1], atoi(argv[2]), 60));
    must(mosquitto_subscribe(client, NULL, argv[6], 1));
    while (!subscribed)
        must(mosquitto_loop(client, 100, 1));
    settle(atoi(argv[9]));
    while (!asked_to_end()) {
        if (now_ns() - stopped_ns >= STOPPED_NS)
            renew(&held, now_ns());
        must(mosquitto_loop(client, (int)(TICK_NS / NS_PER_MS), 1));
    }
    return 0;
}
