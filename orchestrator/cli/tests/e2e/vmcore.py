# Opens an ELF core by drgn and prints the kernel's release: as the core's note has it, and as the kernel's own memory has it
# (init_uts_ns, include/linux/uts_namespace.h).
import re
import sys

import drgn

with open(sys.argv[1], "rb") as file:
    # The notes stand at its beginning.
    notes = file.read(1 << 20)


def told(name, number):
    return re.search(rb"\n" + re.escape(name) + rb"=(" + number + rb")\n", notes)[1].decode()


core = drgn.Program()
core.set_core_dump(sys.argv[1])
print("note", core["UTS_RELEASE"].string_().decode())
# Where the kernel's image is mapped, and where it is (arch/x86/include/asm/page_64.h, __phys_addr_nodebug).
mapped, base = 0xFFFFFFFF80000000, int(told(b"NUMBER(phys_base)", rb"-?\d+"))
address = int(told(b"SYMBOL(init_uts_ns)", rb"[0-9a-f]+"), 16) - mapped + base
# struct new_utsname: names of 65 bytes, of which the third is the release.
names = core.read(address, 2048, physical=True)
names = names[names.index(b"Linux\0") :]
print("memory", names[130:195].split(b"\0")[0].decode())
