#!/bin/sh
# The baseline of `luqual bench`: the same kernels and the same work, with nothing around QEMU but this script. The guest
# finds its requests in its initramfs and says on the console how it went.
# Environment: QEMU, ACCEL, KERNEL, INITRD, APPEND, DIR (for the RAM file and the console's log), DONE (what the guest says
# when all went well).
set -eu
"$QEMU" -machine q35,memory-backend=ram -accel "$ACCEL" -cpu max -smp 2 -m 1024M \
  -object memory-backend-file,id=ram,size=1024M,mem-path="$DIR/ram",share=on \
  -device intel-iommu,intremap=on,caching-mode=on -device edu \
  -netdev user,id=net,restrict=on -device virtio-net-pci,netdev=net,romfile= \
  -device virtio-rng-pci -device pvpanic-pci -serial "file:$DIR/console.log" \
  -action reboot=shutdown,panic=shutdown -display none -nodefaults -no-user-config \
  -kernel "$KERNEL" -initrd "$INITRD" -append "$APPEND" </dev/null
rm "$DIR/ram"
# The target says this when it has retrieved, verified and finished, and every probe held.
grep -qF "$DONE" "$DIR/console.log"
