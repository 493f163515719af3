/*
 * A program that tries to become the agent, or to reach it: `not ok` is a way that is open. It passes where all are shut.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/ptrace.h>
#include <sys/reboot.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

static int number;

static void shut(int is_shut, const char *what)
{
	printf("%s %d %s\n", is_shut ? "ok" : "not ok", ++number, what);
	fflush(stdout);
}

static int opens(const char *path, int flags)
{
	int fd = open(path, flags);

	if (fd >= 0)
		close(fd);
	return fd >= 0;
}

/* Whether the agent's files are there. */
static int is_agents_root(void)
{
	return opens("/bin/luqual-agent", O_RDONLY) || opens("/init", O_RDONLY) || opens("/luqual/kernels/target", O_RDONLY) ||
	       opens("/luqual/host_key", O_RDONLY);
}

/* Whether another file could stand in its place; it is put back. */
static int is_replaced(const char *path)
{
	char other[128];

	snprintf(other, sizeof other, "%s.old", path);
	return !rename(path, other) && !rename(other, path);
}

static int connects(const char *path)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	strncpy(address.sun_path, path, sizeof address.sun_path - 1);
	return fd >= 0 && !connect(fd, (struct sockaddr *)&address, sizeof address);
}

static int reaches_ssh(void)
{
	struct sockaddr_in address = { .sin_family = AF_INET, .sin_port = htons(22), .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	return fd >= 0 && !connect(fd, (struct sockaddr *)&address, sizeof address);
}

/* The agent's files, memory and namespaces by /proc. */
static int reaches_a_process(void)
{
	const char *files[] = { "root/bin/luqual-agent", "root/init", "exe", "mem", "ns/mnt", "cwd/bin/luqual-agent" };
	char path[128];

	for (int pid = 1; pid < 200; pid++) {
		if (pid == getpid())
			continue;
		for (unsigned i = 0; i < sizeof files / sizeof *files; i++) {
			snprintf(path, sizeof path, "/proc/%d/%s", pid, files[i]);
			if (opens(path, O_RDWR) || opens(path, O_RDONLY)) {
				printf("# %s\n", path);
				return 1;
			}
		}
	}
	return 0;
}

/* As root of a user namespace: takes away what hides the initramfs. */
static int uncovers_the_root(void)
{
	int status;
	pid_t child = fork();

	if (!child) {
		if (unshare(CLONE_NEWUSER | CLONE_NEWNS))
			_exit(0);
		umount2("/", MNT_DETACH);
		if (!chdir("/") && is_agents_root())
			_exit(1);
		mkdir("/tmp/x", 0755);
		if (!chroot("/tmp/x")) {
			for (int i = 0; i < 64; i++)
				if (chdir(".."))
					break;
			if (!chroot(".") && is_agents_root())
				_exit(1);
		}
		if (!mount("proc", "/tmp", "proc", 0, NULL) && opens("/tmp/sysrq-trigger", O_WRONLY))
			_exit(1);
		if (!mount("sysfs", "/tmp", "sysfs", 0, NULL) && opens("/tmp/kernel/uevent_helper", O_WRONLY))
			_exit(1);
		_exit(0);
	}
	waitpid(child, &status, 0);
	return status != 0;
}

static int makes_a_device(void)
{
	return !mknod("/tmp/mem", S_IFCHR | 0600, makedev(1, 1)) && opens("/tmp/mem", O_RDWR);
}

static int mounts_devices(void)
{
	mkdir("/tmp/dev", 0755);
	return !mount("devtmpfs", "/tmp/dev", "devtmpfs", 0, NULL) || !mount("debugfs", "/tmp/dev", "debugfs", 0, NULL);
}

static int loads_a_kernel(void)
{
	int kernel = open("/proc/self/exe", O_RDONLY);
	long returned = syscall(SYS_kexec_file_load, kernel, kernel, 1L, "", 0L);

	return returned == 0 || errno != EPERM;
}

int main(int argc, char **argv)
{
	(void)argv;
	if (argc != 3)
		return 9;
	printf("TAP version 13\n1..15\n");
	shut(!is_agents_root(), "the agent, the kernels and the keys cannot be read");
	shut(!is_replaced("/bin/luqual-agent") && !is_replaced("/luqual/kernels/target"), "they cannot be replaced");
	shut(!connects("/run/luqual/holder"), "the agent's socket cannot be reached");
	shut(!reaches_ssh(), "the agent's SSH server cannot be reached");
	shut(!reaches_a_process(), "no other process can be opened");
	shut(ptrace(PTRACE_ATTACH, 1, NULL, NULL) == -1, "no other process can be traced");
	shut(!opens("/dev/mem", O_RDWR) && !makes_a_device(), "there is no /dev/mem");
	shut(!mounts_devices(), "no file system can be mounted");
	shut(unshare(CLONE_NEWNS) == -1, "no mount can be changed");
	shut(!uncovers_the_root(), "nor as root of a user namespace");
	shut(loads_a_kernel() == 0, "no kernel can be loaded");
	shut(syscall(SYS_init_module, "", 0L, "") == -1 && (errno == EPERM || errno == ENOSYS), "no module can be loaded");
	shut(!opens("/proc/sys/kernel/core_pattern", O_WRONLY) && !opens("/proc/sysrq-trigger", O_WRONLY), "/proc is read-only");
	shut(!opens("/sys/kernel/uevent_helper", O_WRONLY) && !opens("/sys/power/state", O_WRONLY) &&
	     mkdir("/sys/kernel/x", 0755) == -1, "/sys is read-only");
	shut(chmod("/dev/liveupdate", 0600) == -1 && errno == EROFS, "the device files are read-only");
	return 0;
}
