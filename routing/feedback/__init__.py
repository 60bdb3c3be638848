"""Learning from reported quality: task clusters, and corrections of the estimates."""
