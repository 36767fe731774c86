"""What is measured of a trial besides accuracy: speed, how sure it is and who disturbed it; cost, memory, energy."""
