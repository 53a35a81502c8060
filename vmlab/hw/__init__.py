"""What the hardware is: page size, address layout, and the firmware's memory map."""
