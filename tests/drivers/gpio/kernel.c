/* A GPIO chip under the real libgpiod, for machines that have none: preloaded, it answers the library's system
 * calls on one path as gpiolib-cdev does (linux/gpio.h, uAPI v2), and hands everything else to the kernel.
 *
 *   LD_PRELOAD=kernel.so python -m pytest tests/drivers/gpio/library_rules.py
 *
 * What the driver asks of the kernel, and what it makes of the kernel's answers, is thereby the library's own C
 * code at work. What a real chip does (time, voltage, resistors, other drivers) is not shown by it.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/gpio.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#define CHIP "/dev/gpiochip7"
#define SUBSYSTEM "/sys/dev/char/254:7/subsystem"
#define LINES 32
#define ORDERS 1024
#define FLOATING (-1)
#define PULLS (GPIO_V2_LINE_FLAG_BIAS_PULL_UP | GPIO_V2_LINE_FLAG_BIAS_PULL_DOWN)
#define EDGES (GPIO_V2_LINE_FLAG_EDGE_RISING | GPIO_V2_LINE_FLAG_EDGE_FALLING)

struct request {
	int fd, tail; /* both ends of the queue; fd -1: free */
	bool dead;
	uint32_t num_lines, size, seq;
	uint32_t offsets[GPIO_V2_LINES_MAX];
	char consumer[GPIO_MAX_NAME_SIZE];
};

struct line {
	int driven; /* by the outside world */
	struct request *held;
	char owner[GPIO_MAX_NAME_SIZE]; /* another process */
	uint64_t flags;
	uint32_t debounce_us, seq;
	int value; /* as an output, electrically */
	int num_orders;
	unsigned char orders[ORDERS];
};

static struct line lines[LINES];
static struct request requests[LINES];
static int chip_fd = -1;
static bool plugged, readable, writable;
static uint64_t now_ns;

/* ---------------------------------------------------------------------------------------- the chip itself */

static int level(const struct line *line)
{
	if (line->driven != FLOATING)
		return line->driven;
	if (line->held && line->flags & GPIO_V2_LINE_FLAG_OUTPUT)
		return line->value;
	return line->held && line->flags & GPIO_V2_LINE_FLAG_BIAS_PULL_UP;
}

static int logical(const struct line *line)
{
	return level(line) ^ !!(line->flags & GPIO_V2_LINE_FLAG_ACTIVE_LOW);
}

static void queue(struct request *request, uint32_t offset, uint32_t line_seq, int active)
{
	struct gpio_v2_line_event oldest, event = {
		.timestamp_ns = now_ns,
		.id = active ? GPIO_V2_LINE_EVENT_RISING_EDGE : GPIO_V2_LINE_EVENT_FALLING_EDGE,
		.offset = offset,
		.seqno = request->num_lines == 1 ? line_seq : ++request->seq,
		.line_seqno = line_seq,
	};
	int waiting = 0;

	syscall(SYS_ioctl, request->fd, FIONREAD, &waiting);
	if ((size_t)waiting >= request->size * sizeof event)
		syscall(SYS_read, request->fd, &oldest, sizeof oldest);
	syscall(SYS_write, request->tail, &event, sizeof event);
}

static void let_go(struct request *request)
{
	for (uint32_t i = 0; i < request->num_lines; i++)
		if (lines[request->offsets[i]].held == request)
			lines[request->offsets[i]].held = NULL;
	if (request->tail >= 0)
		syscall(SYS_close, request->tail);
	request->tail = -1;
}

/* ----------------------------------------------------------------------------------- what the test does to it */

__attribute__((constructor)) void standin_reset(void)
{
	memset(lines, 0, sizeof lines);
	for (int i = 0; i < LINES; i++) {
		lines[i].driven = FLOATING;
		requests[i].fd = requests[i].tail = -1;
	}
	plugged = readable = writable = true;
}

void standin_drive(int offset, int high, uint64_t at_ns)
{
	struct line *line = &lines[offset];
	int before = level(line);

	now_ns = at_ns;
	line->driven = high;
	if (line->held && line->flags & EDGES && level(line) != before)
		queue(line->held, offset, ++line->seq, logical(line));
}

void standin_stray(int offset, int line, uint64_t at_ns)
{
	now_ns = at_ns;
	queue(lines[offset].held, line, 1, 1);
}

void standin_own(int offset, const char *owner)
{
	snprintf(lines[offset].owner, sizeof lines[offset].owner, "%s", owner);
}

void standin_answer(int read_levels, int write_levels)
{
	readable = read_levels;
	writable = write_levels;
}

void standin_unplug(void)
{
	plugged = false;
	for (int i = 0; i < LINES; i++)
		if (requests[i].fd >= 0) {
			requests[i].dead = true;
			let_go(&requests[i]); /* the queue hangs up */
		}
}

void standin_plug(void)
{
	plugged = true;
	for (int i = 0; i < LINES; i++)
		lines[i].num_orders = 0;
}

int standin_orders(int offset, unsigned char *into)
{
	memcpy(into, lines[offset].orders, lines[offset].num_orders);
	return lines[offset].num_orders;
}

uint64_t standin_flags(int offset) { return lines[offset].flags; }
uint32_t standin_debounce_us(int offset) { return lines[offset].debounce_us; }
int standin_held(int offset) { return lines[offset].held != NULL; }
int standin_queue(int offset) { return lines[offset].held ? (int)lines[offset].held->size : 0; }
const char *standin_consumer(int offset) { return lines[offset].held ? lines[offset].held->consumer : ""; }

/* ------------------------------------------------------------------------------------------ what the kernel does */

static int refuse(int number)
{
	errno = number;
	return -1;
}

static void order(struct line *line, int active)
{
	line->value = active ^ !!(line->flags & GPIO_V2_LINE_FLAG_ACTIVE_LOW);
	if (line->num_orders < ORDERS)
		line->orders[line->num_orders++] = active;
}

static bool valid(uint64_t flags, uint32_t debounce_us)
{
	bool in = flags & GPIO_V2_LINE_FLAG_INPUT, out = flags & GPIO_V2_LINE_FLAG_OUTPUT;

	return !(in && out) && (in || !(flags & EDGES)) && (in || !debounce_us) &&
	       (in || out || !(flags & PULLS)) && (flags & PULLS) != PULLS;
}

static void configure(const struct gpio_v2_line_config *config, uint32_t i, uint64_t *flags, uint32_t *us, int *active)
{
	*flags = config->flags;
	*us = 0;
	*active = 0;
	for (uint32_t n = 0; n < config->num_attrs; n++) {
		const struct gpio_v2_line_attribute *attr = &config->attrs[n].attr;

		if (!(config->attrs[n].mask >> i & 1))
			continue;
		if (attr->id == GPIO_V2_LINE_ATTR_ID_FLAGS)
			*flags = attr->flags;
		else if (attr->id == GPIO_V2_LINE_ATTR_ID_DEBOUNCE)
			*us = attr->debounce_period_us;
		else
			*active = attr->values >> i & 1;
	}
}

static int get_line(struct gpio_v2_line_request *asked)
{
	struct request *request = requests;
	uint64_t flags;
	uint32_t us;
	int active, ends[2];

	for (uint32_t i = 0; i < asked->num_lines; i++) {
		if (asked->offsets[i] >= LINES)
			return refuse(EINVAL);
		configure(&asked->config, i, &flags, &us, &active);
		if (!valid(flags, us))
			return refuse(EINVAL);
		if (lines[asked->offsets[i]].held || *lines[asked->offsets[i]].owner)
			return refuse(EBUSY);
	}
	while (request->fd >= 0)
		request++;
	if (pipe2(ends, O_CLOEXEC))
		return -1;
	*request = (struct request){ .fd = ends[0], .tail = ends[1], .num_lines = asked->num_lines,
				     .size = asked->event_buffer_size };
	memcpy(request->offsets, asked->offsets, sizeof request->offsets);
	memcpy(request->consumer, asked->consumer, sizeof request->consumer);
	for (uint32_t i = 0; i < asked->num_lines; i++) {
		struct line *line = &lines[asked->offsets[i]];

		configure(&asked->config, i, &line->flags, &line->debounce_us, &active);
		line->held = request;
		line->seq = 0;
		if (line->flags & GPIO_V2_LINE_FLAG_OUTPUT)
			order(line, active);
	}
	asked->fd = request->fd;
	return 0;
}

static int get_values(struct request *request, struct gpio_v2_line_values *values)
{
	if (!readable)
		return refuse(EREMOTEIO);
	values->bits = 0;
	for (uint32_t i = 0; i < request->num_lines; i++)
		if (values->mask >> i & 1)
			values->bits |= (uint64_t)logical(&lines[request->offsets[i]]) << i;
	return 0;
}

static int set_values(struct request *request, const struct gpio_v2_line_values *values)
{
	if (!writable)
		return refuse(EREMOTEIO);
	for (uint32_t i = 0; i < request->num_lines; i++) {
		struct line *line = &lines[request->offsets[i]];

		if (!(values->mask >> i & 1))
			continue;
		if (!(line->flags & GPIO_V2_LINE_FLAG_OUTPUT))
			return refuse(EPERM);
		order(line, values->bits >> i & 1);
	}
	return 0;
}

static int get_info(struct gpio_v2_line_info *info)
{
	struct line *line = &lines[info->offset];

	if (info->offset >= LINES)
		return refuse(EINVAL);
	*info = (struct gpio_v2_line_info){ .offset = info->offset, .flags = GPIO_V2_LINE_FLAG_INPUT };
	if (line->held || *line->owner)
		info->flags |= GPIO_V2_LINE_FLAG_USED;
	memcpy(info->consumer, line->held ? line->held->consumer : line->owner, sizeof info->consumer);
	return 0;
}

static int of_chip(uint32_t number, void *argument)
{
	struct gpiochip_info *chip = argument;

	switch (number) {
	case GPIO_GET_CHIPINFO_IOCTL:
		*chip = (struct gpiochip_info){ .name = "gpiochip7", .label = "standin", .lines = LINES };
		return 0;
	case GPIO_V2_GET_LINEINFO_IOCTL:
		return get_info(argument);
	case GPIO_V2_GET_LINE_IOCTL:
		return get_line(argument);
	default:
		return refuse(EINVAL);
	}
}

static struct request *request_of(int fd)
{
	for (int i = 0; i < LINES; i++)
		if (fd >= 0 && requests[i].fd == fd)
			return &requests[i];
	return NULL;
}

/* --------------------------------------------------------------------------------------- the system calls */

int open(const char *path, int flags, ...)
{
	va_list more;
	mode_t mode;

	va_start(more, flags);
	mode = flags & O_CREAT ? va_arg(more, mode_t) : 0;
	va_end(more);
	if (strcmp(path, CHIP))
		return syscall(SYS_openat, AT_FDCWD, path, flags, mode);
	if (!plugged)
		return refuse(ENOENT);
	return chip_fd = memfd_create("gpiochip7", MFD_CLOEXEC);
}

int ioctl(int fd, unsigned long wide, ...)
{
	struct request *request = request_of(fd);
	uint32_t number = wide; /* some callers extend its sign */
	va_list more;
	void *argument;

	va_start(more, wide);
	argument = va_arg(more, void *);
	va_end(more);
	if (fd >= 0 && fd == chip_fd)
		return plugged ? of_chip(number, argument) : refuse(ENODEV);
	/* FIONBIO and its like go to the queue behind the descriptor. */
	if (!request || _IOC_TYPE(number) != 0xB4)
		return syscall(SYS_ioctl, fd, number, argument);
	if (request->dead)
		return refuse(ENODEV);
	return number == GPIO_V2_LINE_GET_VALUES_IOCTL ? get_values(request, argument) : set_values(request, argument);
}

ssize_t read(int fd, void *into, size_t size)
{
	struct request *request = request_of(fd);

	return request && request->dead ? refuse(ENODEV) : syscall(SYS_read, fd, into, size);
}

int close(int fd)
{
	struct request *request = request_of(fd);

	if (fd == chip_fd)
		chip_fd = -1;
	if (request) {
		let_go(request);
		request->fd = -1;
	}
	return syscall(SYS_close, fd);
}

static int look(const char *path, struct stat *stat, int flags)
{
	if (strcmp(path, CHIP))
		return fstatat(AT_FDCWD, path, stat, flags);
	if (!plugged)
		return refuse(ENOENT);
	*stat = (struct stat){ .st_mode = S_IFCHR | 0600, .st_rdev = makedev(254, 7) };
	return 0;
}

/* The library's wheels are built against an old C library, which calls the first two so. */
int __xstat(int version, const char *path, struct stat *stat) { return (void)version, look(path, stat, 0); }
int __lxstat(int version, const char *path, struct stat *stat)
{
	return (void)version, look(path, stat, AT_SYMLINK_NOFOLLOW);
}
int stat(const char *path, struct stat *stat) { return look(path, stat, 0); }
int lstat(const char *path, struct stat *stat) { return look(path, stat, AT_SYMLINK_NOFOLLOW); }

char *realpath(const char *path, char *into)
{
	static char *(*next)(const char *, char *);

	if (!strcmp(path, SUBSYSTEM))
		return into ? strcpy(into, "/sys/bus/gpio") : strdup("/sys/bus/gpio");
	if (!next)
		*(void **)&next = dlsym(RTLD_NEXT, "realpath");
	return next(path, into);
}
