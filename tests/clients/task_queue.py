import redis, time
r = redis.Redis(host='localhost', port=6379, db=0)
def add_task(task):
    r.rpush('tasks', task); print(f"Task '{task}' added to queue")
def process_task():
    task = r.lpop('tasks')
    if task:
        print(f"Processing task: {task}"); time.sleep(1); print(f"Task completed: {task}")
    else:
        print("Queue is empty")
for t in ("Calculate user balance", "Send payment notification", "Update inventory"): add_task(t)
for _ in range(3): process_task()
