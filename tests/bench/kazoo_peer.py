"""The peer of `make bench`: what one would write today with Python's kazoo. Runs a program at each change, with the data on stdin."""

import subprocess
import sys
import time

from kazoo.client import KazooClient

servers, path, *program = sys.argv[1:]
client = KazooClient(hosts=servers)
client.start()


@client.DataWatch(path)
def changed(data, stat):
    if stat is not None:
        subprocess.run(program, input=data, check=True)


while True:
    time.sleep(3600)
