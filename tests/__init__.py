"""The tests of voicekeys, and the lab that they run on."""
