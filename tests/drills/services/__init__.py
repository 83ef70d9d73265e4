"""Services of the drills: how one is started and watched, and two that are not like the real one."""
